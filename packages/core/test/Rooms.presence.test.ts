import * as Room from "@effect-ws/core/Room"
import * as RoomBroker from "@effect-ws/core/RoomBroker"
import * as Rooms from "@effect-ws/core/Rooms"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Latch, Layer, Queue, Schema, SchemaGetter, Stream } from "effect"
import { TestClock } from "effect/testing"
import { frames, isWaiting, open, openStalled, settle, start } from "./fixture.ts"
import { enterAs, layerWithBroker, otherRooms, Person, shown, talkative } from "./rooms.ts"

const people = Room.make("people", { member: Person })
const memory = Effect.provide(Rooms.layerMemory)

/** Follows a room's presence: what was seen since one looked last. */
const follow = Effect.fnUntraced(function*(room: Room.Room<typeof Person.Type, never>) {
  const rooms = yield* Rooms.Rooms
  const seen: Array<string> = []
  yield* start(Stream.runForEach(rooms.presence(room), (event) => Effect.sync(() => seen.push(shown(event)))))
  return Effect.map(settle, () => seen.splice(0))
})

describe("presence", () => {
  it.effect("tells who is in, and then who joins, changes and leaves, with metadata", () =>
    Effect.gen(function*() {
      const ada = yield* enterAs(people, "Ada")
      const seen = yield* follow(people)
      assert.deepStrictEqual(yield* seen, ["in: Ada"])
      const grace = yield* enterAs(people, "Grace")
      yield* ada.membership.update({ name: "Countess" })
      yield* grace.membership.leave
      assert.deepStrictEqual(yield* seen, ["Joined Grace", "Updated Countess", "Left Grace"])
    }).pipe(memory))

  it.effect("who has left cannot change any more", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      yield* enterAs(people, "Ada")
      const { membership } = yield* enterAs(people, "Grace")
      yield* membership.leave
      yield* membership.update({ name: "Ghost" })
      assert.deepStrictEqual((yield* rooms.members(people)).map(({ metadata }) => metadata.name), ["Ada"])
    }).pipe(memory))

  it.effect.each(["ends", "is interrupted"])("who leaves during a change has left, however that %s", (how) => {
    const isFree = Latch.makeUnsafe(true)
    const layer = layerWithBroker((broker) => ({
      enter: (room, member) =>
        Effect.andThen(isFree.await, Effect.tap(broker.enter(room, member), () => Effect.yieldNow))
    }))
    return Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const { membership } = yield* enterAs(people, "Grace")
      isFree.closeUnsafe()
      const changing = yield* start(membership.update({ name: "Ghost" }))
      yield* membership.leave
      isFree.openUnsafe()
      yield* how === "ends" ? Fiber.join(changing) : Effect.andThen(Effect.yieldNow, Fiber.interrupt(changing))
      assert.deepStrictEqual(yield* rooms.members(people), [])
    }).pipe(Effect.provide(layer))
  })

  it.effect("metadata may be whatever has a schema", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const since = Room.make("since", {
        member: Schema.Struct({ since: Schema.Date, tags: Schema.ReadonlySet(Schema.String) })
      })
      const { connection } = yield* open()
      const metadata = { since: new Date(7), tags: new Set(["a"]) }
      const { id } = yield* rooms.join(since, connection, { metadata })
      assert.deepStrictEqual(yield* rooms.members(since), [{ id, metadata }])
    }).pipe(memory))

  it.effect("members and count are those of all processes, and include who has just joined", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const other = yield* otherRooms
      const names = Effect.map(rooms.members(people), (members) => members.map(({ metadata }) => metadata.name))
      assert.deepStrictEqual([yield* names, yield* rooms.count(people)], [[], 0])
      yield* enterAs(people, "Ada")
      assert.deepStrictEqual(yield* names, ["Ada"])
      yield* enterAs(people, "Grace").pipe(Effect.provideService(Rooms.Rooms, other))
      assert.deepStrictEqual([yield* names, yield* rooms.count(people)], [["Ada", "Grace"], 2])
    }).pipe(Effect.provide(Layer.provideMerge(Rooms.layer, RoomBroker.layerMemory))))

  it.effect("nothing is lost between the snapshot and what follows", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const known = new Map<string, string>()
      const apply = (event: Room.Presence<typeof Person.Type>) => {
        if (event._tag === "Snapshot") known.clear()
        for (const { id, metadata } of event._tag === "Snapshot" ? event.members : [event.member]) {
          if (event._tag === "Left") assert.isTrue(known.delete(id))
          else known.set(id, metadata.name)
        }
      }
      const come = (name: string) =>
        Effect.gen(function*() {
          const { membership } = yield* enterAs(people, name)
          yield* Effect.yieldNow
          if (Number(name) % 3 === 0) yield* membership.leave
        })
      const names = Array.from({ length: 60 }, (_, i) => String(i))
      const coming = yield* start(Effect.forEach(names, come, { concurrency: 10 }))
      yield* Effect.yieldNow
      yield* start(Stream.runForEach(rooms.presence(people), (event) => Effect.sync(() => apply(event))))
      yield* Fiber.join(coming)
      yield* settle
      assert.sameMembers([...known.values()], names.filter((name) => Number(name) % 3 !== 0))
    }).pipe(memory))

  it.effect("who does not keep up is told anew who is in", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const { membership } = yield* enterAs(people, "0")
      const events = yield* Queue.bounded<string>(1)
      yield* start(Stream.runForEach(rooms.presence(people), (event) => Queue.offer(events, shown(event))))
      for (let i = 1; i <= 5000; i++) yield* membership.update({ name: String(i) })
      const seen: Array<string> = []
      while (seen.at(-1) !== "Updated 5000" && seen.at(-1) !== "in: 5000") seen.push(yield* Queue.take(events))
      assert.isBelow(seen.length, 3000)
      const again = seen.lastIndexOf(seen.findLast((event) => event.startsWith("in:"))!)
      const latest = Number(seen[again]!.slice(4))
      assert.isAbove(again, 0)
      assert.deepStrictEqual(
        seen.slice(again + 1),
        Array.from({ length: 5000 - latest }, (_, i) => `Updated ${latest + i + 1}`)
      )
    }).pipe(memory))

  it.effect("a member whose metadata this process does not understand is not shown, and can join", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const newer = Room.make("people", { member: Schema.Struct({ nick: Schema.String }) })
      const seen = yield* follow(people)
      const { connection } = yield* open()
      yield* rooms.join(newer, connection, { metadata: { nick: "x" } })
      yield* enterAs(people, "Ada")
      assert.deepStrictEqual(yield* seen, ["in: ", "Joined Ada"])
    }).pipe(memory))
})

describe("a schema that cannot decode metadata", () => {
  const failing = {
    throws: SchemaGetter.transform<string, string>(() => assert.fail("a mistake")),
    "takes its time": SchemaGetter.transformEffect((name: string) => Effect.as(Effect.sleep("1 second"), name))
  }
  it.effect.each(Object.entries(failing))(
    "because it %s leaves the room usable",
    ([, decode]) =>
      Effect.gen(function*() {
        const rooms = yield* Rooms.Rooms
        const encode = SchemaGetter.transform((name: string) => name)
        const room = Room.make("room", {
          member: Schema.String.pipe(Schema.decodeTo(Schema.String, { decode, encode }))
        })
        const { connection, peer } = yield* open()
        yield* rooms.join(room, connection, { metadata: "Ada" })
        yield* rooms.publish(room, "hello")
        assert.deepStrictEqual(yield* frames(peer, 1), ["text hello"])
        assert.deepStrictEqual(yield* rooms.members(room), [])
        // Another process begins with a snapshot.
        const other = yield* otherRooms
        assert.deepStrictEqual(yield* other.members(room), [])
      }).pipe(Effect.provide(Layer.provideMerge(Rooms.layer, RoomBroker.layerMemory)))
  )
})

describe("what members are told", () => {
  it.effect("who joins is told who is in, first; the others are told who joins and leaves", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = talkative("room")
      const ada = yield* enterAs(room, "Ada")
      const grace = yield* enterAs(room, "Grace")
      yield* rooms.publish(room, "hello")
      yield* grace.membership.update({ name: "Admiral" })
      yield* ada.membership.leave
      yield* ada.connection.send("the end")
      assert.deepStrictEqual(yield* frames(ada.peer, 5), [
        "text in: Ada",
        "text Joined Grace",
        "text hello",
        "text Updated Admiral",
        "text the end"
      ])
      assert.deepStrictEqual(yield* frames(grace.peer, 4), [
        "text in: Ada Grace",
        "text hello",
        "text Updated Admiral",
        "text Left Ada"
      ])
    }).pipe(memory))

  it.effect("what is kept comes after who is in, and before what is new", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = talkative("room", { messages: 10 })
      yield* rooms.publish(room, "one")
      const { connection, peer } = yield* open()
      yield* rooms.join(room, connection, { metadata: { name: "Ada" }, from: "oldest" })
      yield* rooms.publish(room, "two")
      assert.deepStrictEqual(yield* frames(peer, 3), ["text in: Ada", "text one", "text two"])
    }).pipe(memory))

  it.effect("a client that catches up without room for what changes stays, and is told when it has", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = talkative("room", { messages: 50 })
      for (let i = 1; i <= 50; i++) yield* rooms.publish(room, String(i))
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 20 })
      const joining = yield* start(rooms.join(room, connection, { metadata: { name: "Ada" }, from: "oldest" }))
      assert.isTrue(yield* isWaiting(joining))
      const grace = yield* enterAs(room, "Grace")
      yield* grace.membership.update({ name: "Admiral" })
      yield* rooms.publish(room, "51")
      assert.isTrue(yield* isWaiting(joining))
      yield* peer.demand(Infinity)
      yield* Fiber.join(joining)
      yield* grace.membership.leave
      const numbers = Array.from({ length: 51 }, (_, i) => `text ${i + 1}`)
      assert.deepStrictEqual(yield* frames(peer, 55), [
        "text in: Ada",
        ...numbers,
        "text Joined Grace",
        "text Updated Admiral",
        "text Left Admiral"
      ])
    }).pipe(memory))

  // The room tells neither of snapshots nor of gaps.
  const changesIn = (overflow?: Room.RoomOverflow) =>
    Room.make("changes", {
      member: Person,
      history: { messages: 50 },
      overflow,
      notify: (notice) => notice._tag === "Joined" || notice._tag === "Updated" ? shown(notice) : undefined
    })
  const changesOnly = changesIn()

  it.effect("a change that a client has no room for while it catches up is told, whatever else the room tells", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      for (let i = 1; i <= 50; i++) yield* rooms.publish(changesOnly, String(i))
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 20 })
      const joining = yield* start(rooms.join(changesOnly, connection, { metadata: { name: "Ada" }, from: "oldest" }))
      assert.isTrue(yield* isWaiting(joining))
      yield* enterAs(changesOnly, "Grace")
      yield* peer.demand(Infinity)
      yield* Fiber.join(joining)
      const received = yield* frames(peer, 51)
      assert.strictEqual(received.at(-1), "text Joined Grace")
    }).pipe(memory))

  it.effect("a client that catches up with more changes waiting than there is room for is closed, as one that is not", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      for (let i = 1; i <= 50; i++) yield* rooms.publish(changesOnly, String(i))
      const { connection } = yield* openStalled({ maxQueuedMessages: 20, closeTimeout: "1 second" })
      const joining = yield* start(rooms.join(changesOnly, connection, { metadata: { name: "Ada" }, from: "oldest" }))
      const { membership } = yield* enterAs(changesOnly, "Grace")
      for (let i = 1; i < 1024; i++) yield* membership.update({ name: String(i) })
      assert.strictEqual(yield* connection.state, "Open")
      yield* membership.update({ name: "1024" })
      assert.strictEqual(yield* connection.state, "Closing")
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(Fiber.join(joining))).reason._tag, "ConnectionNotOpen")
    }).pipe(memory))

  it.effect.each(["drop-newest", "drop-oldest"] as const)(
    "or misses changes, if the room says so (%s), but none of the past",
    (overflow) =>
      Effect.gen(function*() {
        const rooms = yield* Rooms.Rooms
        const room = changesIn(overflow)
        for (let i = 1; i <= 50; i++) yield* rooms.publish(room, String(i))
        const { connection, peer } = yield* openStalled({ maxQueuedMessages: 20 })
        const joining = yield* start(rooms.join(room, connection, { metadata: { name: "Ada" }, from: "oldest" }))
        const { membership } = yield* enterAs(room, "Grace")
        for (let i = 1; i < 2000; i++) yield* membership.update({ name: String(i) })
        yield* peer.demand(Infinity)
        yield* Fiber.join(joining)
        const received = yield* frames(peer, 50 + 1024)
        assert.deepStrictEqual(received.slice(0, 50), Array.from({ length: 50 }, (_, i) => `text ${i + 1}`))
        const [first, last] = overflow === "drop-newest"
          ? ["Joined Grace", "Updated 1023"]
          : ["Updated 976", "Updated 1999"]
        assert.deepStrictEqual([received[50], received.at(-1)], [`text ${first}`, `text ${last}`])
      }).pipe(memory)
  )

  it.effect("a gap that a client has no room for while it catches up is told when it has", () => {
    let happen: (event: RoomBroker.BrokerEvent) => void = () => {}
    const layer = layerWithBroker((broker) => ({
      attach: (room, history, receive) => {
        happen = receive
        return broker.attach(room, history, receive)
      }
    }))
    return Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = talkative("room", { messages: 50 })
      for (let i = 1; i <= 50; i++) yield* rooms.publish(room, String(i))
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 20 })
      const joining = yield* start(rooms.join(room, connection, { metadata: { name: "Ada" }, from: "oldest" }))
      assert.isTrue(yield* isWaiting(joining))
      happen({ _tag: "Gap" })
      yield* peer.demand(Infinity)
      yield* Fiber.join(joining)
      assert.deepStrictEqual((yield* frames(peer, 52)).slice(50), ["text 50", "text Gap"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("after a gap, all are told of it in its place, and who is in now", () => {
    let happen: (event: RoomBroker.BrokerEvent) => void = () => {}
    const layer = layerWithBroker((broker) => ({
      attach: (room, history, receive) => {
        happen = receive
        return broker.attach(room, history, receive)
      }
    }))
    return Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = talkative("room")
      const { membership, peer } = yield* enterAs(room, "Ada")
      const seen = yield* follow(room)
      const heard: Array<string> = []
      yield* start(
        Stream.runForEach(
          rooms.messages(room),
          (event) => Effect.sync(() => heard.push(event._tag === "Gap" ? "Gap" : String(event.message)))
        )
      )
      yield* settle
      yield* rooms.publish(room, "before")
      happen({ _tag: "Gap" })
      const members = [{ id: membership.id, metadata: { name: "Ada" } }, { id: "new", metadata: { name: "Grace" } }]
      happen({ _tag: "Snapshot", members, position: undefined })
      yield* rooms.publish(room, "after")
      const all = ["in: Ada", "before", "Gap", "in: Ada Grace", "after"]
      assert.deepStrictEqual(yield* frames(peer, 5), all.map((text) => `text ${text}`))
      assert.deepStrictEqual(yield* seen, ["in: Ada", "in: Ada Grace"])
      assert.deepStrictEqual(heard, ["before", "Gap", "after"])
    }).pipe(Effect.provide(layer))
  })

  it.effect("a join whose own entry was lost in a gap is completed by the snapshot that follows", () => {
    let happen: (event: RoomBroker.BrokerEvent) => void = () => {}
    let entered: RoomBroker.MemberRecord | undefined
    const layer = layerWithBroker((broker) => ({
      attach: (room, history, receive) => {
        happen = receive
        return broker.attach(room, history, receive)
      },
      enter: (_, member) =>
        Effect.sync(() => {
          entered = member
        })
    }))
    return Effect.gen(function*() {
      const interrupted = yield* start(Effect.scoped(enterAs(talkative("room"), "Grace")))
      yield* settle
      yield* Fiber.interrupt(interrupted)
      const joining = yield* start(enterAs(talkative("room"), "Ada"))
      yield* settle
      assert.isUndefined(joining.pollUnsafe())
      happen({ _tag: "Snapshot", members: [entered!], position: undefined })
      const { peer } = yield* Fiber.join(joining)
      assert.deepStrictEqual(yield* frames(peer, 1), ["text in: Ada"])
    }).pipe(Effect.provide(layer))
  })
})

describe("messages, for who is not a connection", () => {
  it.effect("who does not keep up is told that there is a gap", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const lobby = Room.make("lobby")
      const events = yield* Queue.bounded<string>(1)
      yield* start(Stream.runForEach(rooms.messages(lobby), (event) =>
        Queue.offer(events, event._tag === "Gap" ? "Gap" : String(event.message))))
      yield* settle
      for (let i = 0; i < 5000; i++) {
        yield* rooms.publish(lobby, String(i))
      }
      const heard: Array<string> = []
      while (heard.at(-1) !== "4999") {
        heard.push(yield* Queue.take(events))
      }
      assert.isAtLeast(heard.indexOf("Gap"), 0)
      assert.isBelow(heard.length, 3000)
      for (const [i, text] of heard.entries()) {
        if (text !== "Gap" && i > 0 && heard[i - 1] !== "Gap") {
          assert.strictEqual(Number(text), Number(heard[i - 1]) + 1)
        }
      }
    }).pipe(memory))
})
