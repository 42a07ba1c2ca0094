import * as Room from "@effect-ws/core/Room"
import * as RoomBroker from "@effect-ws/core/RoomBroker"
import * as Rooms from "@effect-ws/core/Rooms"
import { Context, Effect, Layer, Schema } from "effect"
import { open, type Options } from "./fixture.ts"

export const Person = Schema.Struct({ name: Schema.String })

/** A room whose members are told everything, as JSON. */
export const talkative = (name: string, history?: { readonly messages: number }) =>
  Room.make(name, { member: Person, history, notify: (notice) => shown(notice) })

/** A notice in words, such as "in: Ada Grace" or "Joined Ada". */
export const shown = (notice: Room.Notice<typeof Person.Type>): string => {
  switch (notice._tag) {
    case "Snapshot":
      return `in: ${notice.members.map(({ metadata }) => metadata.name).join(" ")}`
    case "Gap":
      return "Gap"
    default:
      return `${notice._tag} ${notice.member.metadata.name}`
  }
}

/** A connection that has joined, and its peer. */
export const enter = Effect.fnUntraced(function*(
  room: Room.Room<void, never>,
  options: Options = {},
  joinOptions: Rooms.JoinOptions<void> = {}
) {
  const opened = yield* open(options)
  const rooms = yield* Rooms.Rooms
  const membership = yield* rooms.join(room, opened.connection, joinOptions)
  return { ...opened, membership }
})

/** Somebody who has joined under a name, and their peer. */
export const enterAs = Effect.fnUntraced(function*(room: Room.Room<typeof Person.Type, never>, name: string) {
  const opened = yield* open()
  const rooms = yield* Rooms.Rooms
  const membership = yield* rooms.join(room, opened.connection, { metadata: { name } })
  return { ...opened, membership }
})

/** The rooms of another process with the same broker. */
export const otherRooms = Effect.map(Layer.build(Rooms.layer), (context) => Context.get(context, Rooms.Rooms))

/** Rooms with a broker that the test can change, in front of one in memory. */
export const layerWithBroker = (
  change: (broker: RoomBroker.RoomBroker["Service"]) => Partial<RoomBroker.RoomBroker["Service"]>
) =>
  Rooms.layer.pipe(
    Layer.provide(
      Layer.effect(
        RoomBroker.RoomBroker,
        Effect.map(RoomBroker.RoomBroker, (broker) => ({ ...broker, ...change(broker) }))
      )
    ),
    Layer.provide(RoomBroker.layerMemory)
  )
