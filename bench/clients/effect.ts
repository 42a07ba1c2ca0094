/** Clients of Effect's own sockets that send back what they get; they wrap the WebSocket of Node. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import { settings } from "../control.ts"

const client = Effect.gen(function*() {
  const socket = yield* Socket.makeWebSocket(`ws://127.0.0.1:${settings.port}`)
  const writer = yield* socket.writer
  const { pull } = yield* socket.reader
  while (true) yield* writer.writeAll(yield* pull)
}).pipe(
  Effect.scoped,
  Effect.ignore
)

Effect.replicateEffect(client, settings.connections ?? 1, { concurrency: "unbounded", discard: true }).pipe(
  Effect.provide(NodeSocket.layerWebSocketConstructor),
  NodeRuntime.runMain
)
