/**
 * A chat that knows who is here: people join, talk, go away, come back and leave, and all others are told.
 *
 * Nothing in this file knows where it runs: `main.ts` runs it on Node, `Presence.test.ts` over a network in memory.
 */
import { HandshakeRequest, type ServerRuntime, TypedConnection, WebSocketServer } from "@effect-ws/core"
import { ConnectionError } from "@effect-ws/core/WebSocketError"
import { Cause, Context, Effect, Exit, FiberHandle, Layer, type Scope, Stream } from "effect"
import * as Protocol from "./Protocol.ts"

/** Who does not keep up is closed rather than waited for: a chat is for those who are there. */
export const serverOptions: ServerRuntime.ServerOptions = {
  maxMessageBytes: 4096,
  maxQueuedBytes: 16 * 1024,
  overflow: { close: 1013 }
}

/** After so long without a word, a person is away. */
export const awayAfter = "5 minutes"

/** A person's connection. */
type Client = TypedConnection.TypedConnection<Protocol.FromClient, Protocol.ToClient>

/** The people who are here, and what they are told. */
export class Room extends Context.Service<Room, {
  /** Lets somebody in until the scope closes; the others are told of both. */
  readonly enter: (client: Client, name: string) => Effect.Effect<void, never, Scope.Scope>
  readonly has: (name: string) => boolean
  readonly say: (name: string, text: string) => Effect.Effect<void>
  readonly be: (name: string, status: Protocol.Status) => Effect.Effect<void>
}>()("presence/Room") {
  static readonly layer = Layer.effect(
    Room,
    Effect.gen(function*() {
      const server = yield* WebSocketServer.WebSocketServer
      const people = new Map<string, Protocol.Status>()

      // Encoded once for all, and nobody is waited for: see `overflow` above.
      const tell = (event: Protocol.ToClient, options?: WebSocketServer.BroadcastOptions) =>
        Protocol.protocol.outgoing.encode(event).pipe(
          Effect.orDie,
          Effect.flatMap((message) => server.broadcast(message, options))
        )

      const leave = Effect.fnUntraced(function*(name: string, exit: Exit.Exit<unknown, unknown>) {
        people.delete(name)
        // The server goes down: all leave, and each is told by close code 1001.
        if (Exit.hasInterrupts(exit)) return
        yield* tell({ _tag: "Left", name, why: whyOf(exit) })
      })

      return Room.of({
        has: (name) => people.has(name),
        enter: Effect.fnUntraced(function*(client, name) {
          yield* Effect.acquireRelease(Effect.sync(() => people.set(name, "here")), (_, exit) => leave(name, exit))
          yield* Effect.ignore(client.send({ _tag: "Welcome", people: Object.fromEntries(people) }))
          yield* tell({ _tag: "Joined", name }, { except: client.connection })
        }),
        say: (name, text) => tell({ _tag: "Said", name, text }),
        be: (name, status) =>
          Effect.suspend(() => {
            if (people.get(name) === status) return Effect.void
            people.set(name, status)
            return tell({ _tag: "Is", name, status })
          })
      })
    })
  )
}

// Why a handler ended, for the others.
const whyOf = (exit: Exit.Exit<unknown, unknown>): "left" | "lost" | "too slow" => {
  const error = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
  if (error?._tag !== "Some" || !(error.value instanceof ConnectionError)) return "left"
  switch (error.value.reason._tag) {
    case "ConnectionLost":
    case "HeartbeatTimeout":
      return "lost"
    case "SlowConsumer":
      return "too slow"
    default:
      return "left"
  }
}

// The handshake decides who may come in: everybody with a name that nobody else has.
const chooseName = Effect.fnUntraced(function*(request: HandshakeRequest.HandshakeRequest) {
  const room = yield* Room
  const name = request.query.get("name") ?? ""
  if (name === "") return yield* new HandshakeRequest.HandshakeRejected({ status: 400, body: "who are you?" })
  if (room.has(name)) return yield* new HandshakeRequest.HandshakeRejected({ status: 409, body: "the name is taken" })
  return { data: name }
})

// Runs once for each person, in the scope of the connection.
const converse = Effect.fnUntraced(function*(client: Client, name: string) {
  const room = yield* Room
  yield* room.enter(client, name)
  const idle = yield* FiberHandle.make<void>()
  const awaitSilence = FiberHandle.run(idle, Effect.delay(room.be(name, "away"), awayAfter))
  yield* awaitSilence
  yield* Stream.runForEach(client.messages, (said) =>
    Effect.gen(function*() {
      yield* room.be(name, said._tag === "Be" ? said.status : "here")
      if (said._tag === "Say") yield* room.say(name, said.text)
      yield* awaitSilence
    }))
})

/** The application: all it needs is a `WebSocketServer`. */
export const Presence = TypedConnection.serve(Protocol.protocol, converse, { path: "/presence", handshake: chooseName })
  .pipe(
    Layer.provide(Room.layer)
  )
