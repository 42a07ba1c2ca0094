/** effect-ws, one message at a time through a stream, or in batches; defaults wherever a workload does not need more. */
import type * as Connection from "@effect-ws/core/Connection"
import * as Room from "@effect-ws/core/Room"
import * as Rooms from "@effect-ws/core/Rooms"
import * as WebSocketServer from "@effect-ws/core/WebSocketServer"
import * as NodeWebSocketServer from "@effect-ws/node/NodeWebSocketServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { announce, settings } from "../control.ts"

const echo = (connection: Connection.Connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))

const echoBatches = Effect.fnUntraced(function*(connection: Connection.Connection) {
  while (true) yield* connection.sendAll(yield* connection.pull)
})

const publish = Effect.fnUntraced(function*(connection: Connection.Connection) {
  const { broadcast } = yield* WebSocketServer.WebSocketServer
  yield* Stream.runForEach(connection.messages, (message) => broadcast(message))
})

const publishBatches = Effect.fnUntraced(function*(connection: Connection.Connection) {
  const { broadcast } = yield* WebSocketServer.WebSocketServer
  while (true) {
    for (const message of yield* connection.pull) yield* broadcast(message)
  }
})

const rooms = Array.from({ length: settings.rooms ?? 0 }, (_, i) => Room.make(`room ${i}`))
let joined = 0

const publishToRoom = Effect.fnUntraced(function*(connection: Connection.Connection) {
  const { join, publish } = yield* Rooms.Rooms
  const room = rooms[joined++ % rooms.length]!
  yield* join(room, connection)
  yield* Stream.runForEach(connection.messages, (message) => publish(room, message))
})

const handlers = {
  stream: settings.broadcast ? publish : echo,
  batch: settings.broadcast ? publishBatches : echoBatches
}
const serving = settings.rooms === undefined
  ? WebSocketServer.serve(handlers[settings.level ?? "stream"])
  : Layer.provide(WebSocketServer.serve(publishToRoom), Rooms.layerMemory)

const contextTakeover = settings.deflate === "context takeover"

const Announcement = Layer.effectDiscard(Effect.gen(function*() {
  const { address } = yield* WebSocketServer.WebSocketServer
  if (address._tag === "Tcp") announce(address.port)
}))

Layer.mergeAll(serving, Announcement).pipe(
  Layer.provide(NodeWebSocketServer.layer({
    port: 0,
    tls: settings.tls,
    maxMessageBytes: settings.maxMessageBytes,
    maxQueuedMessages: settings.maxQueuedMessages,
    maxQueuedBytes: settings.maxQueuedBytes,
    deflate: settings.deflate && { sending: { contextTakeover }, receiving: { contextTakeover } },
    heartbeat: settings.heartbeatMillis === undefined
      ? undefined
      : { interval: settings.heartbeatMillis, timeout: "20 seconds" }
  })),
  Layer.launch,
  NodeRuntime.runMain
)
