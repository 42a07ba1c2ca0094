/**
 * A relay: each client of one server is connected to another server behind it, with backpressure from end to end.
 *
 *     npx node examples/proxy-relay.ts
 *
 * Upstream sends without pause; the client reads nothing for a while. What is on its way stays within the buffers: upstream
 * is held back, though it knows only the relay. Then the client reads all of it. Closes travel through the relay too, with
 * code and reason.
 */
import { type Connection, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Option, Stream } from "effect"

const message = new Uint8Array(64 * 1024)
const total = 512
const progress = { sent: 0 }

const Upstream = WebSocketServer.serve((connection) =>
  connection.send(message).pipe(
    Effect.tap(() => Effect.sync(() => progress.sent++)),
    Effect.repeat({ times: total - 1 }),
    Effect.andThen(connection.close(4000, "that was all"))
  )
)

/** One direction: pulling waits for sending, and sending for the other side. */
const forward = Effect.fnUntraced(function*(from: Connection.Connection, to: Connection.Connection) {
  yield* Effect.ignore(Stream.runForEach(from.messages, (message) => to.send(message)))
  const { code, reason } = yield* from.closed
  // 1005 and 1006 say that there was no code, and may not travel.
  yield* code === 1006 ? to.abort : Effect.ignore(to.close(code === 1005 ? 1000 : code, reason))
})

const relayTo = (upstream: string) =>
  WebSocketServer.serve(
    Effect.fnUntraced(function*(client) {
      const server = yield* WebSocketClient.connect(`${upstream}${client.request.url}`, {
        subprotocols: Option.toArray(client.subprotocol)
      })
      yield* Effect.all([forward(client, server), forward(server, client)], { concurrency: "unbounded" })
    })
  )

const listen = (serving: Layer.Layer<never, never, WebSocketServer.WebSocketServer>) =>
  Layer.build(Layer.provideMerge(serving, NodeWebSocketServer.layer({ port: 0 }))).pipe(
    Effect.map((context) => Context.get(context, WebSocketServer.WebSocketServer).url)
  )

const program = Effect.gen(function*() {
  const client = yield* WebSocketClient.WebSocketClient
  const upstream = yield* listen(Upstream)
  const relay = yield* listen(
    relayTo(upstream).pipe(
      Layer.provide(Layer.succeed(WebSocketClient.WebSocketClient, client))
    )
  )

  const connection = yield* WebSocketClient.connect(`${relay}/through`)
  yield* connection.pause
  // Until upstream makes no progress any more.
  let before = -1
  while (before !== progress.sent) {
    before = progress.sent
    yield* Effect.sleep("300 millis")
  }
  yield* Console.log(`upstream is held back: ${before < total}`)
  yield* connection.resume
  let received = 0
  yield* connection.messages.pipe(
    Stream.runForEach((message) => Effect.sync(() => received += message.length)),
    Effect.catch(({ closeEvent: { code, reason } }) => Console.log(`the end: ${code} ${reason}`))
  )
  yield* Console.log(`${received / 1024 / 1024} MiB have arrived`)
})

program.pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer), NodeRuntime.runMain)
