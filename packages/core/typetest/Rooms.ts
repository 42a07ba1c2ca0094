import { type Connection, MessageCodec, Room, type RoomError, Rooms, type WebSocketError } from "@effect-ws/core"
import { type Effect, type Layer, Schema, type Scope, type Stream } from "effect"
import { expectTypeOf } from "vitest"

declare const connection: Connection.Connection
declare const rooms: Rooms.Rooms["Service"]

const plain = Room.make("plain")
expectTypeOf(plain).toEqualTypeOf<Room.Room<void, string | Uint8Array>>()

const Person = Schema.Struct({ name: Schema.String })
const Event = Schema.TaggedUnion({ Said: { text: Schema.String }, Gone: { name: Schema.String } })

// The members and values of a room have the types of its schemas.
const typed = Room.make("typed", {
  member: Person,
  message: MessageCodec.json(Event),
  history: { messages: 10 },
  stamp: (event, position) => {
    expectTypeOf(position).toEqualTypeOf<Room.Position>()
    return event
  },
  notify: (notice) => {
    expectTypeOf(notice).toEqualTypeOf<Room.Notice<{ readonly name: string }>>()
    return notice._tag === "Left" ? { _tag: "Gone", name: notice.member.metadata.name } : undefined
  }
})
expectTypeOf(typed).toEqualTypeOf<Room.Room<typeof Person.Type, typeof Event.Type>>()

// @ts-expect-error The notice is not a value of the room.
Room.make("wrong", { message: MessageCodec.json(Event), notify: () => ({ _tag: "Other" }) })

const joined = rooms.join(typed, connection, { metadata: { name: "Ada" } })
expectTypeOf(joined).toEqualTypeOf<
  Effect.Effect<
    Rooms.Membership<{ readonly name: string }>,
    RoomError.RoomError | WebSocketError.SendError,
    Scope.Scope
  >
>()

// Metadata is asked for where there is some.
export const joins = [
  rooms.join(plain, connection),
  rooms.join(plain, connection, { from: "oldest" }),
  // @ts-expect-error Who is it?
  rooms.join(typed, connection),
  // @ts-expect-error Who is it?
  rooms.join(typed, connection, { from: "oldest" }),
  // @ts-expect-error That is not a person.
  rooms.join(typed, connection, { metadata: { nick: "Ada" } })
]

export const publishes = [
  rooms.publish(plain, Uint8Array.of(1)),
  rooms.publish(typed, { _tag: "Said", text: "hello" }),
  // @ts-expect-error Not a value of the room.
  rooms.publish(typed, { _tag: "Said" }),
  // @ts-expect-error Nobody could wait for whom.
  rooms.publish(plain, "hello", { overflow: "suspend" })
]

expectTypeOf(rooms.presence(typed)).toEqualTypeOf<
  Stream.Stream<Room.Presence<{ readonly name: string }>, RoomError.RoomError>
>()
expectTypeOf(rooms.members(typed)).toEqualTypeOf<
  Effect.Effect<ReadonlyArray<Room.Member<{ readonly name: string }>>, RoomError.RoomError>
>()
expectTypeOf(Rooms.layerMemory).toEqualTypeOf<Layer.Layer<Rooms.Rooms>>()
