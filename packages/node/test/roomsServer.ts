/**
 * A server process with one room, for tests: node roomsServer.ts redis://...
 *
 * Who connects with a name, and a position if they come back, is told who comes and goes, and what the others send.
 */
import { Room, Rooms, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import * as NodeRedisRoomBroker from "@effect-ws/node/NodeRedisRoomBroker"
import { NodeRedis, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema, Stream } from "effect"

const room = Room.make("room", {
  member: Schema.String,
  history: { messages: 1000 },
  stamp: (message, { epoch, offset }) => `${epoch} ${offset} ${message}`,
  notify: (notice) => "member" in notice ? `${notice._tag} ${notice.member.metadata}` : notice._tag
})

const Server = WebSocketServer.serve(
  Effect.fnUntraced(function*(connection) {
    const rooms = yield* Rooms.Rooms
    const query = new URL(connection.request.url, "ws://localhost").searchParams
    const epoch = query.get("epoch")
    yield* rooms.join(room, connection, {
      metadata: query.get("name") ?? "",
      from: epoch === null ? undefined : { epoch, offset: Number(query.get("offset")) }
    })
    yield* Stream.runForEach(connection.messages, (message) => rooms.publish(room, message))
  })
)

const Announcement = Layer.effectDiscard(
  Effect.flatMap(WebSocketServer.WebSocketServer, ({ url }) => Console.log(url))
)

Layer.mergeAll(Server, Announcement).pipe(
  Layer.provide(NodeWebSocketServer.layer({ port: 0 })),
  Layer.provide(Rooms.layer),
  Layer.provide(NodeRedisRoomBroker.layer({ lease: "6 seconds" })),
  Layer.provide(NodeRedis.layer({ url: process.argv[2]! })),
  Layer.launch,
  NodeRuntime.runMain
)
