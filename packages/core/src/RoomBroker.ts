/**
 * What rooms of several processes have in common: their messages, members and histories.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { RoomHistory } from "./internal/roomHistory.ts"
import type { Message } from "./Message.ts"
import type { Gap, History, Position, RoomOverflow } from "./Room.ts"
import { InsufficientHistory, RoomError } from "./RoomError.ts"

/**
 * What `Rooms` publishes through: it tells every process what happens in the rooms that it has attached.
 *
 * **Details**
 *
 * - `attach` calls `receive`, which does not throw, for all that happens in the room from now on, in the same order in all
 *   processes; first with a `Snapshot`. What could not be delivered in time is delivered later, in its place, or a `Gap` is.
 * - `publish` delivers a message to all processes that have attached the room, exactly once. With a `history`, the room keeps
 *   it.
 * - `enter` makes a member known, or changes its metadata, and returns when the process has been told that it has entered;
 *   `leave` makes it forgotten, and does nothing if it is not known. Both work for rooms that the process has attached. What a
 *   process leaves behind when it dies is removed too.
 * - `since` gives what a room has kept of the messages after a position, or of all: also what the process has been told before
 *   it asked.
 *
 * **When to use**
 *
 * Applications use `Rooms`. The contract is for those who write a broker.
 *
 * @category services
 * @since 0.1.0
 */
export class RoomBroker extends Context.Service<RoomBroker, {
  readonly attach: (
    room: string,
    history: History | undefined,
    receive: (event: BrokerEvent) => void
  ) => Effect.Effect<void, RoomError, Scope.Scope>
  readonly publish: (
    room: string,
    publication: Publication,
    history: History | undefined
  ) => Effect.Effect<void, RoomError>
  readonly enter: (room: string, member: MemberRecord) => Effect.Effect<void, RoomError>
  readonly leave: (room: string, id: string) => Effect.Effect<void>
  readonly since: (room: string, from: Position | "oldest") => Effect.Effect<Kept, RoomError>
}>()("@effect-ws/core/RoomBroker/RoomBroker") {}

/**
 * A message on its way to the members of a room: to all but `except`, the id of one of them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Publication {
  readonly message: Message
  readonly except: string | undefined
  readonly overflow: RoomOverflow
}

/**
 * A member as brokers know it.
 *
 * @category models
 * @since 0.1.0
 */
export interface MemberRecord {
  readonly id: string
  readonly metadata: Schema.Json
}

/**
 * What happens in a room.
 *
 * **Details**
 *
 * A `Snapshot` tells who is in and, if the room has a history, the position of its latest message. `Entered` tells of new
 * members and of changed ones.
 *
 * @category models
 * @since 0.1.0
 */
export type BrokerEvent =
  | {
    readonly _tag: "Snapshot"
    readonly members: ReadonlyArray<MemberRecord>
    readonly position: Position | undefined
  }
  | { readonly _tag: "Published"; readonly publication: Publication; readonly position: Position | undefined }
  | { readonly _tag: "Entered"; readonly member: MemberRecord }
  | { readonly _tag: "Left"; readonly id: string }
  | Gap

/**
 * What a room has kept: messages in order, and the position up to which they go. `hasMore` tells that there are more after
 * it, which are to be asked for next: a broker need not give all at once.
 *
 * @category models
 * @since 0.1.0
 */
export interface Kept {
  readonly messages: ReadonlyArray<{ readonly message: Message; readonly position: Position }>
  readonly position: Position | undefined
  readonly hasMore: boolean
}

/**
 * Makes an id of 11 letters and digits, from 53 random bits: for a member, an epoch, a process.
 *
 * @category constructors
 * @since 0.1.0
 */
export const newId = (random: Random.Random): string =>
  Math.floor(random.nextDoubleUnsafe() * 2 ** 53).toString(36).padStart(11, "0")

/**
 * Provides a broker for the rooms of one process.
 *
 * **Details**
 *
 * It is never out of reach. A room is forgotten when nobody has attached it or is in it; with a history, when nothing has
 * happened in it since for the `age` of that, and at the latest as long again after.
 *
 * **When to use**
 *
 * As part of `Rooms.layerMemory`; by itself for tests with several `Rooms` that have it in common, as processes would.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<RoomBroker> = Layer.effect(
  RoomBroker,
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const run = yield* FiberSet.makeRuntime<never>()
    const rooms = new Map<string, MemoryRoom>()

    const open = (name: string, history: History | undefined): MemoryRoom => {
      let room = rooms.get(name)
      if (room === undefined) rooms.set(name, room = new MemoryRoom())
      if (room.history !== undefined || history === undefined) return room
      const made = new RoomHistory(newId(random), history)
      room.history = made
      run(Effect.repeat(
        Effect.andThen(
          Effect.sleep(history.age),
          Effect.sync(() => {
            made.prune(clock.currentTimeMillisUnsafe())
            return rooms.get(name)?.history !== made || forget(name)
          })
        ),
        { until: (isForgotten) => isForgotten }
      ))
      return room
    }

    const forget = (name: string): boolean => {
      const room = rooms.get(name)
      if (room === undefined) return true
      const { history, members, receivers } = room
      const isIdle = receivers.size === 0 && members.size === 0
      if (!isIdle || history?.isOver(clock.currentTimeMillisUnsafe()) === false) return false
      return rooms.delete(name)
    }

    return RoomBroker.of({
      attach: (name, history, receive) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const room = open(name, history)
            room.history?.touch(clock.currentTimeMillisUnsafe())
            room.attach(receive)
          }),
          () =>
            Effect.sync(() => {
              const room = rooms.get(name)
              room?.inTurn(() => {
                room.receivers.delete(receive)
                room.history?.touch(clock.currentTimeMillisUnsafe())
                forget(name)
              })
            })
        ),
      publish: (name, publication, history) =>
        Effect.sync(() => {
          const room = history === undefined ? rooms.get(name) : open(name, history)
          const position = history && room?.history?.append(publication.message, clock.currentTimeMillisUnsafe())
          room?.deliver({ _tag: "Published", publication, position })
        }),
      enter: (name, member) =>
        Effect.sync(() => {
          const room = open(name, undefined)
          room.members.set(member.id, member)
          room.deliver({ _tag: "Entered", member })
        }),
      leave: (name, id) =>
        Effect.sync(() => {
          const room = rooms.get(name)
          if (room?.members.delete(id) !== true) return
          room.deliver({ _tag: "Left", id })
          forget(name)
        }),
      since: (name, from) =>
        Effect.suspend(() => {
          const kept = rooms.get(name)?.history?.since(from, clock.currentTimeMillisUnsafe())
          if (kept !== undefined) return Effect.succeed(kept)
          return from === "oldest"
            ? Effect.succeed({ messages: [], position: undefined, hasMore: false })
            : Effect.fail(new RoomError({ room: name, reason: new InsufficientHistory({}) }))
        })
    })
  })
)

class MemoryRoom {
  readonly receivers = new Set<(event: BrokerEvent) => void>()
  readonly members = new Map<string, MemberRecord>()
  history: RoomHistory | undefined
  // What happens while something is delivered: who receives first may answer at once, and the others must not get the
  // answer before what it answers.
  private waiting: Array<() => void> | undefined

  attach(receive: (event: BrokerEvent) => void): void {
    this.inTurn(() => {
      this.receivers.add(receive)
      receive({ _tag: "Snapshot", members: [...this.members.values()], position: this.history?.position })
    })
  }

  deliver(event: BrokerEvent): void {
    this.inTurn(() => {
      for (const receive of this.receivers) receive(event)
    })
  }

  inTurn(act: () => void): void {
    if (this.waiting !== undefined) return void this.waiting.push(act)
    const waiting = this.waiting = [act]
    try {
      for (const next of waiting) next()
    } finally {
      this.waiting = undefined
    }
  }
}
