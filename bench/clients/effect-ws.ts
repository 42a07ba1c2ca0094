/** Clients of effect-ws that send back what they get. */
import type * as Connection from "@effect-ws/core/Connection"
import * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import * as NodeWebSocketClient from "@effect-ws/node/NodeWebSocketClient"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { settings } from "../control.ts"

const echo = (connection: Connection.Connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))

const echoBatches = Effect.fnUntraced(function*(connection: Connection.Connection) {
  while (true) yield* connection.sendAll(yield* connection.pull)
})

const handler = { stream: echo, batch: echoBatches }[settings.level ?? "stream"]

const client = Effect.gen(function*() {
  const connection = yield* WebSocketClient.connect(`ws://127.0.0.1:${settings.port}`)
  yield* Effect.forkScoped(handler(connection))
  yield* connection.closed
}).pipe(Effect.scoped)

Effect.replicateEffect(client, settings.connections ?? 1, { concurrency: "unbounded", discard: true }).pipe(
  Effect.provide(NodeWebSocketClient.layer),
  NodeRuntime.runMain
)
