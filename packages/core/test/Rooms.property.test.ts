import { Opcode } from "@effect-ws/core/protocol/Frame"
import * as Room from "@effect-ws/core/Room"
import * as Rooms from "@effect-ws/core/Rooms"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, type Fiber, Schema, Scope } from "effect"
import * as Arbitrary from "effect/Arbitrary"
import { open, settle, show } from "./fixture.ts"

const client = Schema.Literals([0, 1, 2])

const Operation = Schema.TaggedUnion({
  Publish: { count: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 8 })) },
  Come: { client, reads: Schema.Boolean },
  Stall: { client },
  Unstall: { client },
  Leave: { client },
  Settle: {}
})

const room = Room.make("room", {
  history: { messages: 1000 },
  stamp: (_, { epoch, offset }) => `${epoch} ${offset}`,
  notify: (notice) =>
    notice._tag === "Snapshot"
      ? ["Snapshot", ...notice.members.map(({ id }) => id)].join(" ")
      : notice._tag === "Gap"
      ? "Gap"
      : `${notice._tag} ${notice.member.id}`
})

/** A client that comes and goes, and says what it saw last when it comes back. */
const makeClient = () => {
  const seen: Array<number> = []
  const present = new Set<string>()
  let position: Room.Position | undefined
  let visit: undefined | {
    readonly scope: Scope.Closeable
    readonly stall: Effect.Effect<void>
    readonly unstall: Effect.Effect<void>
    readonly joining: Fiber.Fiber<unknown, unknown>
  }
  const see = (frame: string) => {
    const [opcode, what, ...words] = frame.split(" ")
    if (opcode !== "text") return
    switch (what) {
      case "Snapshot":
        present.clear()
        for (const id of words) present.add(id)
        return
      case "Joined":
        present.add(words[0]!)
        return
      case "Left":
        assert.isTrue(present.delete(words[0]!))
        return
      default:
        position = { epoch: what!, offset: Number(words[0]) }
        seen.push(position.offset)
    }
  }
  const leave = Effect.suspend(() => {
    if (visit === undefined) return Effect.void
    const { scope } = visit
    visit = undefined
    return Scope.close(scope, Exit.void)
  })
  return {
    seen,
    present,
    come: Effect.fnUntraced(function*(reads: boolean) {
      // A slow client is closed.
      if (visit?.joining.pollUnsafe() !== undefined) yield* leave
      if (visit !== undefined) return
      const rooms = yield* Rooms.Rooms
      const scope = yield* Scope.make()
      yield* Effect.gen(function*() {
        const { connection, peer } = yield* open({ maxQueuedMessages: 4, link: { bufferBytes: 20 } })
        yield* peer.demand(reads ? Infinity : 0)
        const read = Effect.flatMap(peer.frame, (frame) => {
          see(show(frame))
          return frame.opcode === Opcode.close ? peer.reset : Effect.void
        })
        yield* Effect.forkScoped(Effect.forever(read))
        const join = Effect.scoped(Effect.andThen(
          rooms.join(room, connection, { from: position ?? "oldest" }),
          connection.closed
        ))
        visit = {
          scope,
          stall: peer.demand(0),
          unstall: peer.demand(Infinity),
          joining: yield* Effect.forkScoped(join, { startImmediately: true })
        }
      }).pipe(Scope.provide(scope))
    }),
    stall: Effect.suspend(() => visit?.stall ?? Effect.void),
    unstall: Effect.suspend(() => visit?.unstall ?? Effect.void),
    leave
  }
}

describe("whoever comes, goes, stands still and comes back", () => {
  it.effect.prop(
    "sees each message once, in order, and without a gap, and knows who is in",
    { script: Arbitrary.array(Arbitrary.schema(Operation), { maxLength: 80 }) },
    ({ script }) =>
      Effect.gen(function*() {
        const rooms = yield* Rooms.Rooms
        // Somebody is always there, or the room might be forgotten.
        yield* rooms.join(room, (yield* open()).connection)
        const clients = [makeClient(), makeClient(), makeClient()] as const
        let published = 0
        const publish = Effect.suspend(() => rooms.publish(room, String(++published)))
        for (const operation of script) {
          yield* Operation.match(operation, {
            Publish: ({ count }) => Effect.replicateEffect(publish, count, { discard: true }),
            Come: ({ client, reads }) => clients[client].come(reads),
            Stall: ({ client }) => clients[client].stall,
            Unstall: ({ client }) => clients[client].unstall,
            Leave: ({ client }) => clients[client].leave,
            Settle: () => settle
          })
        }
        // In the end, all are there and read. Those who were closed come back.
        for (const { come, leave, present, seen, unstall } of clients) {
          const knowsAll = Effect.map(
            rooms.members(room),
            (members) =>
              (seen.at(-1) ?? 0) === published && members.length === present.size &&
              members.every(({ id }) => present.has(id))
          )
          const catchUp = Effect.andThen(Effect.andThen(come(true), unstall), settle)
          yield* Effect.repeat(Effect.andThen(catchUp, knowsAll), { until: (isSo) => isSo })
          assert.deepStrictEqual(seen, Array.from({ length: published }, (_, i) => i + 1))
          yield* leave
        }
      }).pipe(Effect.scoped, Effect.provide(Rooms.layerMemory)),
    { arbitrary: { runs: 300 } }
  )
})
