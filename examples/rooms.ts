/**
 * Rooms: who is in, what was said while one was away, and nobody waits for anybody.
 *
 *     npx node examples/rooms.ts
 *
 * A server with as many rooms as clients ask for, and two clients. One of them loses its connection and comes back: it gets
 * what it missed, until that is too much. With `NodeRedisRoomBroker` instead of the broker in memory, the same server runs in
 * many processes.
 */
import { MessageCodec, Room, Rooms, TypedConnection, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema, Stream } from "effect"

const Person = Schema.Struct({ name: Schema.String })

const ToServer = Schema.TaggedUnion({
  Enter: { room: Schema.String, name: Schema.String, after: Schema.optional(Room.Position) },
  Say: { text: Schema.String }
})

const ToClient = Schema.TaggedUnion({
  Present: { names: Schema.Array(Schema.String) },
  Joined: { name: Schema.String },
  Left: { name: Schema.String },
  Said: { name: Schema.String, text: Schema.String, position: Schema.optional(Room.Position) },
  Missed: {}
})

const toServer = MessageCodec.json(ToServer)
const toClient = MessageCodec.json(ToClient)

// Rooms of the same name are the same room.
const roomOf = (name: string) =>
  Room.make(`rooms/${name}`, {
    member: Person,
    message: toClient,
    history: { messages: 3, age: "10 minutes" },
    stamp: (event, position) => event._tag === "Said" ? { ...event, position } : event,
    notify: (notice) => {
      switch (notice._tag) {
        case "Snapshot":
          return { _tag: "Present", names: notice.members.map(({ metadata }) => metadata.name) }
        case "Joined":
        case "Left":
          return { _tag: notice._tag, name: notice.member.metadata.name }
        case "Gap":
          return { _tag: "Missed" }
      }
    }
  })

const Server = TypedConnection.serve({ incoming: toServer, outgoing: toClient }, (client) =>
  Effect.gen(function*() {
    const rooms = yield* Rooms.Rooms
    const first = yield* client.receive
    if (first._tag !== "Enter") return yield* client.connection.close(1008, "enter a room first")
    const { after, name } = first
    const room = roomOf(first.room)
    const enter = (from?: Room.Position) => rooms.join(room, client.connection, { metadata: { name }, from })
    yield* enter(after).pipe(
      Effect.catchReason("RoomError", "InsufficientHistory", () =>
        Effect.andThen(client.send({ _tag: "Missed" }), enter()))
    )
    yield* Stream.runForEach(client.messages, (message) =>
      message._tag === "Say" ? rooms.publish(room, { _tag: "Said", name, text: message.text }) : Effect.void)
  })).pipe(
    Layer.provide(Rooms.layerMemory),
    Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 }))
  )

const join = Effect.fn("join")(function*(name: string, after?: Room.Position) {
  const { url } = yield* WebSocketServer.WebSocketServer
  const server = yield* TypedConnection.connect({ incoming: toClient, outgoing: toServer }, url)
  yield* server.send({ _tag: "Enter", room: "tea", name, after })
  let latest = after
  const show = ToClient.match({
    Present: ({ names }) => `here are ${names.join(", ")}`,
    Joined: ({ name }) => `${name} has joined`,
    Left: ({ name }) => `${name} has left`,
    Said: ({ name, position, text }) => `${name} says (${position?.offset}): ${text}`,
    Missed: () => "something was missed"
  })
  return {
    say: (...texts: ReadonlyArray<string>) => server.sendAll(texts.map((text) => ({ _tag: "Say" as const, text }))),
    /** Prints what comes, up to a number of events. */
    hear: (count: number) =>
      Effect.replicateEffect(
        Effect.flatMap(server.receive, (event) => {
          if (event._tag === "Said") latest = event.position
          return Console.log(`to ${name}: ${show(event)}`)
        }),
        count,
        { discard: true }
      ),
    /** Goes, and tells the position of the latest message that it got. */
    leave: Effect.map(server.connection.close(), () => latest)
  }
})

const program = Effect.gen(function*() {
  const ada = yield* join("Ada")
  yield* ada.hear(1)
  const grace = yield* join("Grace")
  yield* grace.hear(1)
  yield* ada.hear(1)
  yield* ada.say("the kettle is on")
  yield* ada.hear(1)
  const first = yield* ada.leave

  yield* grace.hear(2)
  yield* grace.say("milk?", "sugar?")
  yield* grace.hear(2)
  const again = yield* join("Ada", first)
  yield* again.hear(3)
  yield* grace.hear(1)
  yield* again.say("both")
  yield* again.hear(1)
  const second = yield* again.leave

  yield* grace.hear(2)
  yield* grace.say("one", "two", "three", "four")
  yield* grace.hear(4)
  const late = yield* join("Ada", second)
  yield* late.hear(2)
})

program.pipe(
  Effect.scoped,
  Effect.provide([Server, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
