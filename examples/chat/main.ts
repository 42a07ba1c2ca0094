/**
 * A chat with a web page. `npm start` runs it; `npm start -- --port 8080`, or PORT=8080, chooses another port.
 */
import { type Connection, HandshakeRequest, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Config, Console, Duration, Effect, Layer, Schedule, Schema, Stream } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import { ChatRoom } from "./ChatRoom.ts"
import { pageServer } from "./PageServer.ts"
import * as Protocol from "./Protocol.ts"

// The handshake decides who may connect, and what the handler below gets as its data: here, a valid name.
const chooseName = (request: HandshakeRequest.HandshakeRequest) =>
  Schema.decodeUnknownEffect(Protocol.Name)(request.query.get("name")).pipe(
    Effect.map((name) => ({ data: name })),
    Effect.mapError(() =>
      new HandshakeRequest.HandshakeRejected({ status: 400, body: "a name has 1 to 24 characters" })
    )
  )

// Runs once for each connection, in the connection's scope: when it returns, the connection is closed and its name is
// free again, and when the connection ends, so do its messages.
const converse = Effect.fnUntraced(function*(connection: Connection.Connection, name: string) {
  const room = yield* ChatRoom
  const person = yield* room.join(connection, name)
  yield* Effect.forkScoped(Effect.ignore(reportLink(connection)))
  yield* Stream.runForEach(connection.messages, (message) =>
    Protocol.decode(message).pipe(
      Effect.flatMap(({ text }) => room.say(person, text)),
      // Nothing is read in the meantime, so whoever sends faster than ten messages a second is held back by TCP.
      Effect.andThen(Effect.sleep("100 millis"))
    )).pipe(
      Effect.catchTag("SchemaError", () => connection.close(1007, "not a message of this chat"))
    )
})

// Tells a page how its own connection does.
const reportLink = (connection: Connection.Connection) =>
  Effect.gen(function*() {
    const roundTrip = yield* connection.ping
    const queuedMessages = yield* connection.queuedMessages
    const queuedBytes = yield* connection.queuedBytes
    const roundTripMillis = Duration.toMillis(roundTrip)
    yield* connection.send(Protocol.encode({ _tag: "Link", roundTripMillis, queuedMessages, queuedBytes }))
  }).pipe(Effect.repeat(Schedule.spaced("1 second")))

const announceUrl = Layer.effectDiscard(Effect.gen(function*() {
  const { address } = yield* WebSocketServer.WebSocketServer
  if (address._tag === "Tcp") {
    yield* Console.log(`The chat is at http://${address.host}:${address.port} (Ctrl-C ends it)`)
  }
}))

const chat = (port: number) =>
  announceUrl.pipe(
    Layer.provide(WebSocketServer.serve(converse, { path: "/chat", handshake: chooseName })),
    Layer.provide(ChatRoom.layer),
    Layer.provide(NodeWebSocketServer.layerFromHttpServer(pageServer(port), {
      maxMessageBytes: 4096,
      // A page that does not keep up is closed, and may come back. To wait for it would delay everybody else, and to drop
      // messages would leave gaps in what was said, and people in the list who have left.
      maxQueuedBytes: 256 * 1024,
      overflow: { close: 1013 }
    }))
  )

const Port = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65535 }))

const port = Flag.Int("port").pipe(
  Flag.withDescription("Port to listen at; 0 for any that is free"),
  Flag.withSchema(Port),
  Flag.withFallbackConfig(Config.schema(Port, "PORT")),
  Flag.withDefault(3000)
)

Command.make("chat", { port }, ({ port }) =>
  Layer.launch(chat(port)).pipe(
    Effect.catchTag("ServeError", ({ cause }) => {
      const userMessage = `${cause}. Try another port: npm start -- --port ${port + 1}`
      return Effect.fail(new CliError.UserError({ cause, userMessage }))
    })
  )).pipe(
    Command.run({ version: "0.0.0" }),
    Effect.provide(NodeServices.layer),
    NodeRuntime.runMain
  )
