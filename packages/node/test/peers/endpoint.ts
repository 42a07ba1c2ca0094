/**
 * A process that holds our end of a connection, of either role.
 */
import { type Connection, type Message, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { Context, Deferred, Effect, Layer, Scope } from "effect"
import { isPayload, type Load, payload } from "./load.ts"
import { answer } from "./remote.ts"

const scope = Scope.makeUnsafe()
let connected = Deferred.makeUnsafe<Connection.Connection>()
let sent = { messages: 0, isSending: false }
let received = { messages: 0, inOrder: true }

const connection = Effect.suspend(() => Deferred.await(connected))

// The peer knows nothing of pings, which a machine that is busy might have time for.
const heartbeat = false

const Server = WebSocketServer.serve((connection) =>
  Effect.andThen(Deferred.succeed(connected, connection), connection.closed)
).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0, heartbeat })))

const send = Effect.fnUntraced(function*({ messages, size }: Load) {
  const current = yield* connection
  sent = { messages: 0, isSending: true }
  const progress = sent
  while (progress.messages < messages) {
    yield* current.send(payload(progress.messages, size))
    progress.messages++
  }
  progress.isSending = false
})

// Pulls a load to its end, and gives every batch of it to `onBatch`.
const consume = Effect.fnUntraced(function*(
  { messages, size }: Load,
  onBatch: (
    batch: ReadonlyArray<Message.Message>,
    connection: Connection.Connection
  ) => Effect.Effect<void, unknown> = () => Effect.void
) {
  const current = yield* connection
  received = { messages: 0, inOrder: true }
  const progress = received
  while (progress.inOrder && progress.messages < messages) {
    const batch = yield* current.pull
    for (const message of batch) {
      progress.inOrder &&= typeof message !== "string" && isPayload(message, progress.messages, size)
      progress.messages++
    }
    yield* onBatch(batch, current)
  }
  return progress
})

const commands = {
  listen: () =>
    Effect.gen(function*() {
      const { address } = Context.get(yield* Layer.buildWithScope(Server, scope), WebSocketServer.WebSocketServer)
      return address._tag === "Tcp" ? address.port : NaN
    }),
  connect: (port: number) =>
    WebSocketClient.connect(`ws://127.0.0.1:${port}`, { heartbeat }).pipe(
      Effect.flatMap((connection) => Deferred.succeed(connected, connection)),
      Effect.asVoid,
      Effect.provide(NodeWebSocketClient.layer),
      Scope.provide(scope)
    ),
  /** Sends a load in a loop. */
  send,
  /** How far that is. */
  sent: () =>
    Effect.gen(function*() {
      const { queuedBytes, queuedMessages } = yield* connection
      return { ...sent, queuedBytes: yield* queuedBytes, queuedMessages: yield* queuedMessages }
    }),
  consume: (load: Load) => consume(load),
  /** Pulls a load, and pauses the connection when each quarter of it has arrived. */
  consumePausing: (load: Load) => {
    let quarters = 1
    return consume(load, (_, { pause }) => {
      if (received.messages < load.messages * quarters / 4) return Effect.void
      quarters++
      return pause
    })
  },
  /** Sends back what it pulls. */
  echo: (load: Load) => consume(load, (batch, connection) => connection.sendAll(batch)),
  received: () => Effect.sync(() => received),
  pause: () => Effect.flatMap(connection, ({ pause }) => pause),
  resume: () => Effect.flatMap(connection, ({ resume }) => resume),
  disconnect: () =>
    Effect.gen(function*() {
      const { abort } = yield* connection
      connected = Deferred.makeUnsafe()
      yield* abort
    }),
  /** What is alive after garbage collection, on the heap and outside, and what the process has of the machine's memory. */
  memory: () =>
    Effect.gen(function*() {
      for (let i = 0; i < 4; i++) {
        globalThis.gc!()
        yield* Effect.sleep(1)
      }
      const { external, heapUsed, rss } = process.memoryUsage()
      return { live: heapUsed + external, resident: rss }
    })
}

export type Endpoint = typeof commands

answer(commands)
