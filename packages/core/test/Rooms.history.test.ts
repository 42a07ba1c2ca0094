import * as Room from "@effect-ws/core/Room"
import * as RoomBroker from "@effect-ws/core/RoomBroker"
import * as Rooms from "@effect-ws/core/Rooms"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Option, Queue, Scope } from "effect"
import { TestClock } from "effect/testing"
import { frames, isWaiting, open, openStalled, reasonOf, settle, source, start } from "./fixture.ts"
import { enter, layerWithBroker, otherRooms } from "./rooms.ts"

const memory = Effect.provide(Rooms.layerMemory)
const stamp = (message: unknown, { offset }: Room.Position) => `${offset} ${message}`
const kept = (messages: number) => Room.make("kept", { history: { messages, age: "1 minute" }, stamp })

const publishAll = Effect.fnUntraced(function*(room: Room.Room<void, string>, ...messages: ReadonlyArray<string>) {
  const rooms = yield* Rooms.Rooms
  for (const message of messages) yield* rooms.publish(room, message)
})

/** The position of the latest message. */
const latest = (room: Room.Room<void, never>) =>
  Effect.scoped(Effect.map(enter(room), ({ membership }) => Option.getOrThrow(membership.position)))

const letters = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `text ${from + i} ${String.fromCharCode(96 + from + i)}`)

describe("joining with a position", () => {
  it.effect("gives what was missed, in order, and then what is new", () =>
    Effect.gen(function*() {
      const room = kept(10)
      yield* publishAll(room, "a", "b")
      const from = yield* latest(room)
      assert.strictEqual(from.offset, 2)
      yield* publishAll(room, "c", "d")
      const { membership, peer } = yield* enter(room, {}, { from })
      assert.deepStrictEqual(membership.position, Option.some({ ...from, offset: 4 }))
      yield* publishAll(room, "e")
      assert.deepStrictEqual(yield* frames(peer, 3), letters(3, 5))
    }).pipe(memory))

  it.effect("gives nothing if nothing was missed, even before the first message", () =>
    Effect.gen(function*() {
      const room = kept(10)
      const from = yield* latest(room)
      assert.strictEqual(from.offset, 0)
      const { peer } = yield* enter(room, {}, { from })
      yield* publishAll(room, "a")
      assert.deepStrictEqual(yield* frames(peer, 1), letters(1, 1))
      const again = yield* enter(room, {}, { from: { ...from, offset: 1 } })
      yield* publishAll(room, "b")
      assert.deepStrictEqual(yield* frames(again.peer, 1), letters(2, 2))
    }).pipe(memory))

  it.effect("\"oldest\" gives all that is kept", () =>
    Effect.gen(function*() {
      const room = kept(3)
      const empty = yield* enter(room, {}, { from: "oldest" })
      yield* publishAll(room, "a", "b", "c", "d", "e")
      assert.deepStrictEqual(yield* frames(empty.peer, 5), letters(1, 5))
      const { peer } = yield* enter(room, {}, { from: "oldest" })
      assert.deepStrictEqual(yield* frames(peer, 3), letters(3, 5))
    }).pipe(memory))

  it.effect("bytes are kept as they were when they were published", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = Room.make("bytes", { history: { messages: 1 } })
      const bytes = Uint8Array.of(1, 2)
      yield* rooms.publish(room, bytes)
      bytes.fill(0)
      const { peer } = yield* enter(room, {}, { from: "oldest" })
      assert.deepStrictEqual(yield* frames(peer, 1), ["binary 1,2"])
    }).pipe(memory))

  it.effect("works in another process than the one before", () =>
    Effect.gen(function*() {
      const room = kept(10)
      const other = yield* otherRooms
      const from = yield* latest(room)
      yield* publishAll(room, "a", "b")
      const { peer } = yield* enter(room, {}, { from }).pipe(Effect.provideService(Rooms.Rooms, other))
      yield* publishAll(room, "c")
      assert.deepStrictEqual(yield* frames(peer, 3), letters(1, 3))
    }).pipe(Effect.provide(Layer.provideMerge(Rooms.layer, RoomBroker.layerMemory))))
})

describe("a history", () => {
  it.effect.each(
    [
      ["number alone", { messages: 2, age: "Infinity" }, "30 seconds", [2, 3]],
      ["age alone", { messages: Infinity, age: "1 minute" }, "40 seconds", [3]]
    ] as const
  )("may be bounded by %s", ([_, history, between, expected]) =>
    Effect.gen(function*() {
      const room = Room.make("kept", { history, stamp })
      for (const message of ["a", "b", "c"]) {
        yield* publishAll(room, message)
        yield* TestClock.adjust(between)
      }
      const { peer } = yield* enter(room, {}, { from: "oldest" })
      yield* publishAll(room, "d")
      assert.deepStrictEqual(yield* frames(peer, expected.length + 1), letters(expected[0], 4))
    }).pipe(memory))
})

describe("insufficient history", () => {
  const refused = (room: Room.Room<void, never>, from: Room.Position) =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const before = yield* rooms.count(room)
      const reason = yield* reasonOf(enter(room, {}, { from }) as Effect.Effect<unknown, any, any>)
      assert.strictEqual(yield* rooms.count(room), before)
      return reason
    })

  it.effect("too many messages since", () =>
    Effect.gen(function*() {
      const room = kept(3)
      const from = yield* latest(room)
      yield* publishAll(room, "a", "b", "c")
      yield* enter(room, {}, { from })
      yield* publishAll(room, "d")
      assert.strictEqual(yield* refused(room, from), "InsufficientHistory")
      yield* enter(room, {}, { from: { ...from, offset: 1 } })
    }).pipe(memory))

  it.effect("messages too old", () =>
    Effect.gen(function*() {
      const room = kept(10)
      const { membership } = yield* enter(room)
      const from = Option.getOrThrow(membership.position)
      yield* publishAll(room, "a")
      yield* TestClock.adjust("30 seconds")
      yield* publishAll(room, "b")
      yield* TestClock.adjust("29999 millis")
      yield* enter(room, {}, { from })
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* refused(room, from), "InsufficientHistory")
      const { peer } = yield* enter(room, {}, { from: { ...from, offset: 1 } })
      assert.deepStrictEqual(yield* frames(peer, 1), letters(2, 2))
    }).pipe(memory))

  it.effect("a position of another epoch, of the future, or of a room that keeps nothing", () =>
    Effect.gen(function*() {
      const room = kept(10)
      const from = yield* latest(room)
      yield* publishAll(room, "a")
      assert.strictEqual(yield* refused(room, { ...from, epoch: "other" }), "InsufficientHistory")
      assert.strictEqual(yield* refused(room, { ...from, offset: 2 }), "InsufficientHistory")
      for (const offset of [-1, 0.5, NaN, Infinity]) {
        assert.strictEqual(yield* refused(room, { ...from, offset }), "InsufficientHistory")
      }
      assert.strictEqual(yield* refused(Room.make("lobby"), from), "InsufficientHistory")
    }).pipe(memory))

  it.effect("a room that was forgotten: unused for the age of its history", () =>
    Effect.gen(function*() {
      const room = kept(10)
      yield* publishAll(room, "a")
      const from = yield* latest(room)
      yield* TestClock.adjust("59 seconds")
      yield* Effect.scoped(enter(room, {}, { from }))
      yield* TestClock.adjust("59 seconds")
      yield* Effect.scoped(enter(room, {}, { from }))
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(yield* refused(room, from), "InsufficientHistory")
      assert.strictEqual((yield* latest(room)).offset, 0)
    }).pipe(memory))

  it.effect("a room is not forgotten while somebody is in it", () =>
    Effect.gen(function*() {
      const room = kept(10)
      yield* publishAll(room, "a")
      const from = yield* latest(room)
      yield* enter(room, { heartbeat: undefined })
      yield* TestClock.adjust("10 minutes")
      const { peer } = yield* enter(room, {}, { from })
      yield* publishAll(room, "b")
      assert.deepStrictEqual(yield* frames(peer, 1), letters(2, 2))
    }).pipe(memory))
})

describe("catching up while others publish", () => {
  const numbered = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, i) => `text ${from + i} ${from + i}`)

  const publishNumbers = Effect.fnUntraced(function*(room: Room.Room<void, string>, from: number, to: number) {
    const rooms = yield* Rooms.Rooms
    for (let i = from; i <= to; i++) yield* rooms.publish(room, String(i))
  })

  // The first is about what is at hand when the client has caught up, the second about what has to be asked for again.
  it.effect.each([100, 3000])(
    "a slow client gets all, without a gap or a repetition, when %s come meanwhile",
    (meanwhile) =>
      Effect.gen(function*() {
        const rooms = yield* Rooms.Rooms
        const room = Room.make("kept", { history: { messages: 10_000 }, stamp })
        yield* publishNumbers(room, 1, 50)
        const { connection, peer } = yield* openStalled({ maxQueuedMessages: 20 })
        const quick = yield* enter(room)
        const joining = yield* start(rooms.join(room, connection, { from: "oldest" }))
        assert.isTrue(yield* isWaiting(joining))
        yield* publishNumbers(room, 51, 50 + meanwhile)
        assert.deepStrictEqual(yield* frames(quick.peer, meanwhile), numbered(51, 50 + meanwhile))
        assert.isUndefined(joining.pollUnsafe())
        yield* peer.demand(Infinity)
        assert.deepStrictEqual(yield* frames(peer, 50), numbered(1, 50))
        assert.deepStrictEqual(yield* frames(peer, meanwhile), numbered(51, 50 + meanwhile))
        const { position } = yield* Fiber.join(joining)
        assert.strictEqual(Option.getOrThrow(position).offset, 50 + meanwhile)
        yield* publishNumbers(room, 51 + meanwhile, 51 + meanwhile)
        assert.deepStrictEqual(yield* frames(peer, 1), numbered(51 + meanwhile, 51 + meanwhile))
      }).pipe(memory)
  )

  it.effect("what the broker gave as past and delivers only then is not sent twice", () => {
    const late: Array<() => void> = []
    const layer = layerWithBroker((broker) => ({
      attach: (room, history, receive) =>
        broker.attach(room, history, (event) => {
          if (event._tag === "Published") late.push(() => receive(event))
          else receive(event)
        })
    }))
    return Effect.gen(function*() {
      const room = kept(10)
      const present = yield* enter(room)
      yield* publishAll(room, "a", "b")
      const { peer } = yield* enter(room, {}, { from: "oldest" })
      yield* publishAll(room, "c")
      for (const deliver of late) deliver()
      assert.deepStrictEqual(yield* frames(present.peer, 3), letters(1, 3))
      assert.deepStrictEqual(yield* frames(peer, 3), letters(1, 3))
    }).pipe(Effect.provide(layer))
  })

  it.effect("nor is it where an epoch ends in between", () => {
    const late: Array<() => void> = []
    const inEpoch = ({ epoch, offset }: Room.Position) => ({ epoch: `${epoch}${offset > 3 ? 2 : 1}`, offset })
    const layer = layerWithBroker((broker) => ({
      attach: (room, history, receive) =>
        broker.attach(room, history, (event) => {
          if (event._tag !== "Published") receive(event)
          else late.push(() => receive({ ...event, position: inEpoch(event.position!) }))
        }),
      since: (room, from) =>
        Effect.map(
          broker.since(room, from === "oldest" ? from : { ...from, epoch: from.epoch.slice(0, -1) }),
          ({ hasMore, messages, position }) => ({
            messages: messages.map(({ message, position }) => ({ message, position: inEpoch(position) })),
            position: inEpoch(position!),
            hasMore
          })
        )
    }))
    return Effect.gen(function*() {
      const room = kept(10)
      const { membership } = yield* enter(room)
      const from = inEpoch({ ...Option.getOrThrow(membership.position), offset: 2 })
      yield* publishAll(room, "a", "b", "c", "d")
      const { peer } = yield* enter(room, {}, { from: "oldest" })
      const returned = yield* enter(room, {}, { from })
      yield* publishAll(room, "e")
      for (const deliver of late) deliver()
      assert.deepStrictEqual(yield* frames(peer, 5), letters(1, 5))
      assert.deepStrictEqual(yield* frames(returned.peer, 3), letters(3, 5))
    }).pipe(Effect.provide(layer))
  })

  it.effect("a broker that gives what it has kept in parts is asked for all of them", () => {
    const layer = layerWithBroker((broker) => ({
      since: (room, from) =>
        Effect.map(broker.since(room, from), ({ messages, position }) => {
          const hasMore = messages.length > 3
          return { messages: messages.slice(0, 3), position: hasMore ? messages[2]!.position : position, hasMore }
        })
    }))
    return Effect.gen(function*() {
      const room = Room.make("kept", { history: { messages: 50 }, stamp })
      yield* publishNumbers(room, 1, 10)
      const { membership, peer } = yield* enter(room, {}, { from: "oldest" })
      yield* publishNumbers(room, 11, 11)
      assert.strictEqual(Option.getOrThrow(membership.position).offset, 10)
      assert.deepStrictEqual(yield* frames(peer, 11), numbered(1, 11))
    }).pipe(Effect.provide(layer))
  })

  it.effect("what waits for a slow client is bounded in bytes: beyond that, the broker is asked again", () => {
    let asked = 0
    const layer = layerWithBroker((broker) => ({
      since: (room, from) => {
        asked++
        return broker.since(room, from)
      }
    }))
    return Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = Room.make("kept", { history: { messages: 50 } })
      yield* publishNumbers(room, 1, 30)
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 20, maxQueuedBytes: 4 << 20 })
      const joining = yield* start(rooms.join(room, connection, { from: "oldest" }))
      assert.isTrue(yield* isWaiting(joining))
      for (let i = 0; i < 3; i++) yield* rooms.publish(room, String(i).repeat(500_000))
      assert.strictEqual(asked, 1)
      yield* peer.demand(Infinity)
      yield* Fiber.join(joining)
      const received = yield* frames(peer, 33)
      assert.deepStrictEqual(received.slice(30).map((frame) => frame.slice(0, 6)), ["text 0", "text 1", "text 2"])
      assert.strictEqual(asked, 2)
    }).pipe(Effect.provide(layer))
  })

  it.effect("in a room that keeps nothing, asking for the oldest costs nothing of what is new", () => {
    const room = Room.make("room")
    const publication = { message: "new", except: undefined, overflow: room.overflow }
    const layer = layerWithBroker((broker) => ({
      enter: (name, member) => Effect.andThen(broker.enter(name, member), broker.publish(name, publication, undefined))
    }))
    return Effect.gen(function*() {
      const { peer } = yield* enter(room, {}, { from: "oldest" })
      yield* publishAll(room, "newer")
      assert.deepStrictEqual(yield* frames(peer, 2), ["text new", "text newer"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("a message larger than the queue waits behind a streamed one, without trying all the time", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = Room.make("kept", { history: { messages: 50 } })
      const large = "x".repeat(2000)
      yield* rooms.publish(room, large)
      const { connection, peer } = yield* open({ maxQueuedBytes: 1000 })
      const { queue, stream } = yield* source
      yield* start(connection.sendStream(stream))
      yield* Queue.offer(queue, "a")
      assert.deepStrictEqual(yield* frames(peer, 1), ["text... a"])
      let tries = 0
      const watched = Object.create(connection, {
        sendUnsafe: {
          value: (...args: Parameters<typeof connection.sendUnsafe>) => {
            tries++
            return connection.sendUnsafe(...args)
          }
        }
      })
      const joining = yield* start(rooms.join(room, watched, { from: "oldest" }))
      yield* settle
      assert.strictEqual(tries, 1)
      yield* Queue.end(queue)
      yield* TestClock.adjust("10 millis")
      yield* Fiber.join(joining)
      assert.deepStrictEqual((yield* frames(peer, 2)).at(-1), `text ${large}`)
    }).pipe(memory))

  it.effect("a client so slow that messages are dropped before it gets them is told", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = Room.make("kept", { history: { messages: 50 } })
      yield* publishNumbers(room, 1, 50)
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 20 })
      const joining = yield* start(Effect.flip(rooms.join(room, connection, { from: "oldest" })))
      yield* settle
      yield* publishNumbers(room, 51, 1200)
      yield* peer.demand(Infinity)
      assert.strictEqual((yield* Fiber.join(joining)).reason._tag, "InsufficientHistory")
      assert.strictEqual(yield* rooms.count(room), 0)
    }).pipe(memory))

  it.effect("a join that is interrupted meanwhile leaves nobody in the room", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = Room.make("kept", { history: { messages: 50 } })
      yield* publishNumbers(room, 1, 50)
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 20 })
      const joining = yield* start(Effect.scoped(rooms.join(room, connection, { from: "oldest" })))
      assert.isTrue(yield* isWaiting(joining))
      assert.strictEqual(yield* rooms.count(room), 1)
      yield* Fiber.interrupt(joining)
      assert.strictEqual(yield* rooms.count(room), 0)
      yield* peer.demand(Infinity)
      yield* publishNumbers(room, 51, 51)
      yield* connection.drained
      yield* connection.send("the end")
      const received = yield* frames(peer, 21)
      assert.strictEqual(received.at(-1), "text the end")
    }).pipe(memory))

  it.effect("a scope that is closed meanwhile, by another fiber, costs those who catch up later nothing", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = Room.make("kept", { history: { messages: 100 } })
      yield* publishNumbers(room, 1, 50)
      const catchUp = Effect.fnUntraced(function*() {
        const { connection, peer } = yield* openStalled({ maxQueuedMessages: 20 })
        const scope = yield* Scope.make()
        const joining = yield* start(Scope.provide(rooms.join(room, connection, { from: "oldest" }), scope))
        assert.isTrue(yield* isWaiting(joining))
        return { peer, scope, joining }
      })
      yield* enter(room)
      const gone = yield* catchUp()
      yield* Scope.close(gone.scope, Exit.void)
      yield* gone.peer.demand(Infinity)
      yield* Fiber.await(gone.joining)
      const { peer } = yield* catchUp()
      yield* publishNumbers(room, 51, 60)
      yield* peer.demand(Infinity)
      yield* settle
      yield* publishNumbers(room, 61, 61)
      assert.deepStrictEqual(yield* frames(peer, 61), Array.from({ length: 61 }, (_, i) => `text ${i + 1}`))
    }).pipe(memory))

  it.effect("a client that goes away meanwhile fails to join", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = Room.make("kept", { history: { messages: 50 } })
      yield* publishNumbers(room, 1, 50)
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 20 })
      const joining = yield* start(Effect.flip(rooms.join(room, connection, { from: "oldest" })))
      yield* settle
      yield* peer.reset
      assert.strictEqual((yield* Fiber.join(joining)).reason._tag, "ConnectionNotOpen")
      const closed = yield* open()
      yield* closed.peer.reset
      yield* closed.connection.closed
      const error = yield* Effect.flip(rooms.join(room, closed.connection, { from: "oldest" }))
      assert.strictEqual(error.reason._tag, "ConnectionNotOpen")
      assert.strictEqual(yield* rooms.count(room), 0)
    }).pipe(memory))
})
