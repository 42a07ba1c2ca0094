import * as MessageCodec from "@effect-ws/core/MessageCodec"
import * as Room from "@effect-ws/core/Room"
import * as RoomBroker from "@effect-ws/core/RoomBroker"
import { BrokerUnavailable, RoomError } from "@effect-ws/core/RoomError"
import * as Rooms from "@effect-ws/core/Rooms"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Metric, Random, References, Schema, Scope } from "effect"
import { counted, negotiated } from "./deflate.ts"
import { frames, open, openStalled, reasonOf, settle, start } from "./fixture.ts"
import { enter, layerWithBroker, otherRooms } from "./rooms.ts"

const lobby = Room.make("lobby")
const memory = Effect.provide(Rooms.layerMemory)

describe("publish", () => {
  it.effect("reaches all members, in order, text and binary", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const members = [yield* enter(lobby), yield* enter(lobby), yield* enter(lobby)]
      yield* rooms.publish(lobby, "zażółć")
      yield* rooms.publish(lobby, Uint8Array.of(1, 2))
      for (const { peer } of members) {
        assert.deepStrictEqual(yield* frames(peer, 2), ["text zażółć", "binary 1,2"])
      }
    }).pipe(memory))

  it.effect("reaches nobody in other rooms, and nobody who has left", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const inside = yield* enter(lobby)
      const outside = yield* enter(Room.make("kitchen"))
      const left = yield* enter(lobby)
      yield* left.membership.leave
      yield* rooms.publish(lobby, "hello")
      yield* outside.connection.send("nothing")
      yield* left.connection.send("nothing")
      assert.deepStrictEqual(yield* frames(inside.peer, 1), ["text hello"])
      for (const { peer } of [outside, left]) assert.deepStrictEqual(yield* frames(peer, 1), ["text nothing"])
    }).pipe(memory))

  it.effect("leaves out whom it is told to", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const [ada, grace] = [yield* enter(lobby), yield* enter(lobby)]
      yield* rooms.publish(lobby, "from Ada", { except: ada.connection })
      yield* rooms.publish(lobby, "for all", { except: (yield* open()).connection })
      assert.deepStrictEqual(yield* frames(ada.peer, 1), ["text for all"])
      assert.deepStrictEqual(yield* frames(grace.peer, 2), ["text from Ada", "text for all"])
    }).pipe(memory))

  it.effect("encodes, stamps and compresses once, however many receive", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const { calls, compression } = counted()
      const ran = { encode: 0, stamp: 0 }
      const codec = MessageCodec.json(Schema.String)
      const texts = Room.make("texts", {
        message: {
          ...codec,
          encode: (value) => {
            ran.encode++
            return codec.encode(value)
          }
        },
        history: { messages: 1 },
        stamp: (text, { offset }) => {
          ran.stamp++
          return `${offset}: ${text}`.repeat(100)
        }
      })
      const members = yield* Effect.replicateEffect(enter(texts, { deflate: negotiated({ compression }) }), 20)
      yield* rooms.publish(texts, "seven")
      for (const { peer } of members) yield* peer.frame
      // Without its position for the broker, and with it for the members.
      assert.deepStrictEqual([calls.deflate, ran], [1, { encode: 2, stamp: 1 }])
    }).pipe(memory))

  it.effect("is one loop: no fiber, and no effect for each member", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      let fibers = 0
      const { connection } = yield* open()
      // Members of which nothing but `sendUnsafe` works.
      const sent: Array<number> = []
      for (let i = 0; i < 10_000; i++) {
        const member = Object.create(connection, {
          sendUnsafe: { value: () => (sent.push(i), "Accepted") },
          send: { value: () => assert.fail("an effect for each member") }
        })
        yield* rooms.join(lobby, member)
      }
      const exit = yield* rooms.publish(lobby, "hello").pipe(
        Effect.provideService(Metric.FiberRuntimeMetrics, {
          recordFiberStart: () => fibers++,
          recordFiberEnd: () => {}
        }),
        Effect.exit
      )
      assert.isTrue(Exit.isSuccess(exit))
      assert.deepStrictEqual([sent.length, new Set(sent).size, fibers], [10_000, 10_000, 0])
    }).pipe(memory))

  it.effect("all members get the same order, even if one answers while others have not received yet", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const first = yield* open()
      const eager = Object.create(first.connection, {
        sendUnsafe: {
          value: (message: { readonly message: string }) => {
            if (message.message === "question") Effect.runFork(rooms.publish(lobby, "answer"))
            return "Accepted"
          }
        }
      })
      yield* rooms.join(lobby, eager)
      const other = yield* enter(lobby)
      yield* rooms.publish(lobby, "question")
      assert.deepStrictEqual(yield* frames(other.peer, 2), ["text question", "text answer"])
    }).pipe(memory))

  it.effect("a function of the room that throws costs the message, and no member", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const fragile = Room.make("fragile", {
        history: { messages: 10 },
        stamp: (message) => message === "bad" ? assert.fail("a mistake") : message,
        notify: () => assert.fail("a mistake")
      })
      const { peer } = yield* enter(fragile)
      yield* rooms.publish(fragile, "bad")
      yield* rooms.publish(fragile, "good")
      assert.deepStrictEqual(yield* frames(peer, 1), ["text good"])
    }).pipe(memory))
})

describe("a member that does not read", () => {
  // Room for two messages that wait.
  const stalled = Effect.fnUntraced(function*(room: Room.Room<void, never>) {
    const opened = yield* openStalled({ maxQueuedMessages: 3, closeTimeout: "1 second" })
    const rooms = yield* Rooms.Rooms
    yield* rooms.join(room, opened.connection)
    return opened
  })
  const numbered = ["text 0", "text 1", "text 2", "text 3", "text 4", "text 5"]

  const publishAll = Effect.fnUntraced(function*(room: Room.Room<void, string>, options?: Rooms.PublishOptions) {
    const rooms = yield* Rooms.Rooms
    const slow = yield* stalled(room)
    const quick = yield* enter(room)
    for (const [i, frame] of numbered.entries()) {
      yield* rooms.publish(room, String(i), options)
      assert.deepStrictEqual(yield* frames(quick.peer, 1), [frame])
    }
    return slow
  })

  it.effect("is closed with 1013 by default, and delays nobody", () =>
    Effect.gen(function*() {
      const slow = yield* publishAll(lobby)
      assert.strictEqual(yield* slow.connection.state, "Closing")
      yield* slow.peer.demand(Infinity)
      assert.deepStrictEqual((yield* frames(slow.peer, 2)).at(-1), "close 1013 slow consumer")
    }).pipe(memory))

  it.effect("misses the newest or the oldest, if the publish says so", () =>
    Effect.gen(function*() {
      const newest = yield* publishAll(lobby, { overflow: "drop-newest" })
      yield* newest.peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(newest.peer, 3), ["text 0", "text 1", "text 2"])
      const oldest = yield* publishAll(Room.make("other"), { overflow: "drop-oldest" })
      yield* oldest.peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(oldest.peer, 3), ["text 0", "text 4", "text 5"])
    }).pipe(memory))

  it.effect("misses messages, if the room says so", () =>
    Effect.gen(function*() {
      const slow = yield* publishAll(Room.make("lossy", { overflow: "drop-newest" }))
      yield* slow.peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(slow.peer, 3), ["text 0", "text 1", "text 2"])
    }).pipe(memory))
})

describe("membership", () => {
  it.effect("ends with its scope, however that ends", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      for (const exit of [Exit.void, Exit.fail("failure"), Exit.die("defect"), Exit.interrupt()]) {
        const scope = yield* Scope.make()
        yield* Scope.provide(enter(lobby), scope)
        assert.strictEqual(yield* rooms.count(lobby), 1)
        yield* Scope.close(scope, exit)
        assert.strictEqual(yield* rooms.count(lobby), 0)
      }
    }).pipe(memory))

  it.effect("a join whose scope is closed, before or meanwhile, is interrupted", () => {
    const layer = layerWithBroker(() => ({ enter: () => Effect.void }))
    return Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const { connection } = yield* open()
      const scope = yield* Scope.make()
      const joining = yield* start(Scope.provide(rooms.join(lobby, connection), scope))
      yield* settle
      assert.isUndefined(joining.pollUnsafe())
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(joining)))
      assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(Scope.provide(rooms.join(lobby, connection), scope))))
    }).pipe(Effect.provide(layer))
  })

  it.effect("leave may be repeated, and the connection may come back", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const { connection, membership, peer } = yield* enter(lobby)
      yield* membership.leave
      yield* membership.leave
      const again = yield* rooms.join(lobby, connection)
      assert.notStrictEqual(again.id, membership.id)
      yield* membership.leave
      yield* rooms.publish(lobby, "welcome back")
      assert.deepStrictEqual(yield* frames(peer, 1), ["text welcome back"])
    }).pipe(memory))

  // With a budget of few operations, fibers yield between any two of them.
  it.effect.each([3, 5, 8])("a join that is interrupted, wherever it is, leaves nothing (budget %i)", (budget) => {
    const slowly = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.tap(Effect.andThen(Effect.yieldNow, effect), () => Effect.yieldNow)
    let attached = 0
    const layer = layerWithBroker((broker) => ({
      attach: (room, history, receive) =>
        Effect.acquireRelease(Effect.sync(() => attached++), () => Effect.sync(() => attached--)).pipe(
          Effect.andThen(slowly(broker.attach(room, history, receive)))
        ),
      enter: (room, member) => slowly(broker.enter(room, member)),
      leave: (room, id) => slowly(broker.leave(room, id)),
      since: (room, from) => slowly(broker.since(room, from))
    }))
    return Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const room = Room.make("room", { history: { messages: 1 }, notify: ({ _tag }) => _tag })
      yield* rooms.publish(room, "kept")
      const { connection } = yield* open()
      for (let turns = 0; turns < 100; turns++) {
        const staying = yield* Effect.andThen(rooms.join(room, connection, { from: "oldest" }), Effect.never).pipe(
          Effect.scoped,
          Effect.provideService(References.MaxOpsBeforeYield, budget),
          Effect.forkChild
        )
        for (let i = 0; i < turns; i++) yield* Effect.yieldNow
        yield* Fiber.interrupt(staying)
        assert.deepStrictEqual([attached, yield* rooms.count(room)], [0, 0])
      }
    }).pipe(Effect.provide(layer))
  })

  it.effect("a connection is in a room once", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const { connection } = yield* enter(lobby)
      assert.strictEqual(yield* reasonOf(rooms.join(lobby, connection)), "AlreadyMember")
      assert.strictEqual(yield* rooms.count(lobby), 1)
      yield* rooms.join(Room.make("kitchen"), connection)
    }).pipe(memory))

  it.effect("ids are as long for whatever is drawn", () =>
    Effect.gen(function*() {
      const draws = [0, 2 ** -53, 0.5, 1 - 2 ** -53]
      const random = { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => draws.shift()! }
      const layer = Layer.fresh(Rooms.layerMemory).pipe(Layer.provide(Layer.succeed(Random.Random, random)))
      const ids = yield* Effect.provide(
        Effect.replicateEffect(Effect.map(enter(Room.make("lobby")), ({ membership }) => membership.id), draws.length),
        layer
      )
      assert.deepStrictEqual(ids, ["00000000000", "00000000001", "18ce53un18g", "2gosa7pa2gv"])
    }))

  it.effect("rooms of one name are one room", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const { peer } = yield* enter(Room.make("numbers"))
      const numbers = Room.make("numbers", { message: MessageCodec.json(Schema.Finite) })
      yield* rooms.publish(numbers, 7)
      assert.deepStrictEqual(yield* frames(peer, 1), ["text 7"])
    }).pipe(memory))
})

describe("a room's life", () => {
  it.effect("a room is attached once while it is used, and not before or after", () => {
    const attached: Array<string> = []
    const layer = layerWithBroker((broker) => ({
      attach: (room, history, receive) =>
        Effect.acquireRelease(Effect.sync(() => attached.push(room)), () => Effect.sync(() => attached.pop())).pipe(
          Effect.andThen(broker.attach(room, history, receive))
        )
    }))
    return Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      yield* rooms.publish(lobby, "nobody hears this")
      assert.deepStrictEqual(attached, [])
      const [one, two] = yield* Effect.all([enter(lobby), enter(lobby)], { concurrency: "unbounded" })
      assert.deepStrictEqual(attached, ["lobby"])
      yield* one.membership.leave
      assert.deepStrictEqual(attached, ["lobby"])
      yield* two.membership.leave
      assert.deepStrictEqual(attached, [])
      assert.strictEqual(yield* rooms.count(lobby), 0)
      assert.deepStrictEqual(attached, [])
    }).pipe(Effect.provide(layer))
  })

  it.effect("several processes that share a broker share their rooms", () =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const other = yield* otherRooms
      const here = yield* enter(lobby)
      const there = yield* enter(lobby).pipe(Effect.provideService(Rooms.Rooms, other))
      yield* rooms.publish(lobby, "hello")
      yield* other.publish(lobby, "and back", { except: there.connection })
      assert.deepStrictEqual(yield* frames(here.peer, 2), ["text hello", "text and back"])
      assert.deepStrictEqual(yield* frames(there.peer, 1), ["text hello"])
      assert.deepStrictEqual([yield* rooms.count(lobby), yield* other.count(lobby)], [2, 2])
    }).pipe(Effect.provide(Layer.provideMerge(Rooms.layer, RoomBroker.layerMemory))))
})

describe("when the broker fails", () => {
  const unavailable = (room: string) =>
    Effect.fail(new RoomError({ room, reason: new BrokerUnavailable({ cause: "down" }) }))

  it.effect("publish and join fail, and nobody is left in the room", () => {
    const left: Array<string> = []
    const layer = layerWithBroker((broker) => ({
      publish: unavailable,
      enter: unavailable,
      leave: (room, id) => Effect.andThen(Effect.sync(() => left.push(id)), broker.leave(room, id))
    }))
    return Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      assert.strictEqual(yield* reasonOf(rooms.publish(lobby, "hello")), "BrokerUnavailable")
      const { connection } = yield* open()
      assert.strictEqual(yield* reasonOf(rooms.join(lobby, connection)), "BrokerUnavailable")
      assert.strictEqual(yield* reasonOf(rooms.join(lobby, connection)), "BrokerUnavailable")
      assert.strictEqual(left.length, 2)
    }).pipe(Effect.provide(layer))
  })

  it.effect("a join that is interrupted while it waits for the broker leaves nothing", () =>
    Effect.forEach(["attach", "enter", "since"] as const, (hanging) => {
      const hung = (room: string) => Effect.andThen(Effect.sync(() => calls.push(room)), Effect.never)
      const calls: Array<string> = []
      return Effect.gen(function*() {
        const rooms = yield* Rooms.Rooms
        const { connection, peer } = yield* open()
        const joining = yield* start(Effect.scoped(rooms.join(lobby, connection, { from: "oldest" })))
        yield* settle
        assert.deepStrictEqual([hanging, ...calls], [hanging, "lobby"])
        joining.interruptUnsafe()
        yield* settle
        assert.isDefined(joining.pollUnsafe())
        if (hanging !== "attach") assert.strictEqual(yield* rooms.count(lobby), 0)
        yield* rooms.publish(lobby, "not for who is not in")
        yield* connection.send("nothing")
        assert.deepStrictEqual(yield* frames(peer, 1), ["text nothing"])
      }).pipe(Effect.provide(layerWithBroker(() => ({ [hanging]: hung }))))
    }))
})
