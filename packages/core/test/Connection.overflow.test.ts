import type { Overflow } from "@effect-ws/core/SendQueue"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  answerClose,
  frames,
  isWaiting,
  open,
  openStalled,
  type Options,
  reasonOf,
  remainingFrames,
  settle,
  start
} from "./fixture.ts"

/** A stalled connection whose queue is full: "first" is in flight, "a" and "b" wait. */
const openFull = (options: Options = {}) =>
  Effect.tap(openStalled({ maxQueuedMessages: 3, ...options }), ({ connection }) =>
    Effect.gen(function*() {
      yield* connection.send("first")
      yield* settle
      yield* connection.sendAll(["a", "b"])
    }))

describe("overflow policies", () => {
  it.effect("suspend: the sender waits for room", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openFull({ overflow: "suspend" })
      const waiting = yield* start(connection.send("c"))
      assert.isTrue(yield* isWaiting(waiting))
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 4), ["text first", "text a", "text b", "text c"])
    }))

  it.effect("suspend: the sender goes on when there is room, though the peer has stopped reading again", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openFull({ overflow: "suspend" })
      const [next, last] = [yield* start(connection.send("c")), yield* start(connection.send("d"))]
      yield* peer.demand(1)
      assert.deepStrictEqual(yield* frames(peer, 1), ["text first"])
      assert.isFalse(yield* isWaiting(next))
      assert.isTrue(yield* isWaiting(last))
      assert.strictEqual(yield* connection.queuedMessages, 3)
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 4), ["text a", "text b", "text c", "text d"])
    }))

  it.effect("fail: the send fails with QueueFull, which tells how full, and nothing is sent", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openFull({ overflow: "fail" })
      const error = yield* Effect.flip(connection.send("c"))
      assert.deepInclude(error.reason, { _tag: "QueueFull", queuedMessages: 3, queuedBytes: 7 + 3 + 3 })
      yield* peer.demand(Infinity)
      yield* settle
      yield* connection.send("d")
      assert.deepStrictEqual(yield* frames(peer, 4), ["text first", "text a", "text b", "text d"])
    }))

  it.effect("fail: sendAll stops at the message that does not fit", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 2, overflow: "fail" })
      assert.strictEqual(yield* reasonOf(connection.sendAll(["a", "b", "c", "d"])), "QueueFull")
      yield* peer.demand(Infinity)
      yield* settle
      yield* connection.send("e")
      assert.deepStrictEqual(yield* frames(peer, 3), ["text a", "text b", "text e"])
    }))

  it.effect("drop-newest: the message is dropped, and the send succeeds", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openFull({ overflow: "drop-newest" })
      yield* connection.sendAll(["c", "d"])
      assert.strictEqual(yield* connection.queuedMessages, 3)
      yield* peer.demand(Infinity)
      yield* settle
      yield* connection.send("e")
      assert.deepStrictEqual(yield* frames(peer, 4), ["text first", "text a", "text b", "text e"])
    }))

  it.effect("drop-oldest: what has waited longest is dropped, but not what is in flight", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openFull({ overflow: "drop-oldest" })
      yield* connection.sendAll(["c", "d", "e"])
      assert.strictEqual(yield* connection.queuedMessages, 3)
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 3), ["text first", "text d", "text e"])
      yield* connection.drained
    }))

  it.effect("drop-oldest: as many are dropped as the bytes of the new one need", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openFull({
        maxQueuedMessages: 100,
        maxQueuedBytes: 30,
        overflow: "drop-oldest"
      })
      yield* connection.sendAll(["12345678", "c"])
      assert.strictEqual(yield* connection.queuedBytes, 7 + 3 + 3 + 10 + 3)
      yield* connection.send("d234567")
      assert.strictEqual(yield* connection.queuedBytes, 7 + 10 + 3 + 9)
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 4), ["text first", "text 12345678", "text c", "text d234567"])
    }))

  it.effect("drop-oldest: nothing is dropped for a message that would not fit even so", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openFull({
        maxQueuedMessages: 100,
        maxQueuedBytes: 30,
        overflow: "drop-oldest"
      })
      yield* connection.send("x".repeat(50))
      yield* peer.demand(Infinity)
      yield* settle
      yield* connection.send("c")
      assert.deepStrictEqual(yield* frames(peer, 4), ["text first", "text a", "text b", "text c"])
    }))

  it.effect("drop-oldest: frames of a streamed message are never dropped", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 3, overflow: "drop-oldest" })
      yield* connection.send("first")
      yield* settle
      yield* connection.send("a")
      yield* connection.sendStream(Stream.make("x", "y"))
      yield* connection.sendAll(["b", "c"])
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 5), [
        "text first",
        "text... x",
        "continuation... y",
        "continuation",
        "text c"
      ])
    }))

  it.effect("drop-oldest: a message that only a streamed one is in the way of is dropped itself", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ maxQueuedBytes: 50, overflow: "drop-oldest" })
      yield* connection.send("first")
      yield* settle
      const sending = yield* start(connection.sendStream(Stream.concat(Stream.make("x".repeat(40)), Stream.never)))
      yield* settle
      assert.strictEqual(connection.sendUnsafe("dropped"), "Dropped")
      yield* peer.demand(Infinity)
      yield* frames(peer, 2)
      yield* Fiber.interrupt(sending)
      assert.deepStrictEqual(yield* frames(peer, 1), ["close 1011 message not completed"])
    }))

  it.effect("drop-oldest: what is dropped behind a streamed message no longer counts for its bound", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ maxQueuedBytes: 60, overflow: "drop-oldest" })
      const fragments = yield* Queue.unbounded<string>()
      yield* start(Effect.ignore(connection.sendStream(Stream.fromQueue(fragments))))
      yield* Queue.offer(fragments, "a")
      yield* settle
      yield* connection.sendAll(["x".repeat(40), "y".repeat(40)])
      yield* Queue.offerAll(fragments, ["b".repeat(30), "c".repeat(30)])
      yield* settle
      // 3 bytes are in flight, and 42 are held back; the second fragment waits.
      assert.strictEqual(yield* connection.queuedBytes, 3 + 42 + 32)
      yield* peer.demand(Infinity)
      assert.strictEqual((yield* frames(peer, 3)).at(-1), `continuation... ${"c".repeat(30)}`)
    }))

  it.effect.each([1008, 1013] as const)(
    "close: a slow consumer is told %s instead of what waits",
    (close) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* openFull({ overflow: { close } })
        assert.strictEqual(yield* reasonOf(connection.send("c")), "ConnectionNotOpen")
        assert.strictEqual(yield* connection.state, "Closing")
        yield* peer.demand(Infinity)
        assert.deepStrictEqual(yield* frames(peer, 1), ["text first"])
        assert.strictEqual(yield* answerClose(peer), `close ${close} slow consumer`)
        assert.deepInclude(yield* connection.closed, { code: close, wasClean: true, initiator: "Local" })
      })
  )

  it.effect("close: a slow consumer that stays slow is dropped after the close timeout", () =>
    Effect.gen(function*() {
      const { connection } = yield* openFull({ overflow: { close: 1008 } })
      yield* Effect.flip(connection.send("c"))
      yield* TestClock.adjust("5 seconds")
      assert.deepInclude(yield* connection.closed, { code: 1006, wasClean: false, initiator: "Local" })
    }))
})

describe("sendUnsafe", () => {
  const results: ReadonlyArray<readonly [Overflow, string]> = [
    ["suspend", "Full"],
    ["fail", "Full"],
    ["drop-newest", "Dropped"],
    ["drop-oldest", "Accepted"],
    [{ close: 1013 }, "NotOpen"]
  ]

  it.effect.each(results)(
    "on a full queue, the policy of the connection applies (%j: %s)",
    ([overflow, expected]) =>
      Effect.gen(function*() {
        const { connection } = yield* openFull({ overflow })
        assert.strictEqual(connection.sendUnsafe("c"), expected)
      })
  )

  it.effect.each(results)("or the policy that is given (%j: %s)", ([overflow, expected]) =>
    Effect.gen(function*() {
      const { connection } = yield* openFull({ overflow: "suspend" })
      assert.strictEqual(connection.sendUnsafe("c", overflow), expected)
    }))

  it.effect("a message that the queue has room for is accepted, whatever the policy", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      for (const [overflow] of results) assert.strictEqual(connection.sendUnsafe("a", overflow), "Accepted")
      assert.deepStrictEqual(yield* frames(peer, 5), Array.from({ length: 5 }, () => "text a"))
    }))
})

describe("once closing has begun", () => {
  it.effect.each(["Closing", "Closed"] as const)(
    "every way to send fails with ConnectionNotOpen (%s)",
    (state) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open()
        yield* start(connection.close())
        if (state === "Closed") {
          yield* answerClose(peer)
          yield* connection.closed
        }
        assert.strictEqual(yield* connection.state, state)
        const ways = {
          send: connection.send("a"),
          sendAll: connection.sendAll(["a"]),
          sendStream: connection.sendStream(Stream.make("a")),
          ping: connection.ping,
          sendPing: connection.sendPing(),
          sendPong: connection.sendPong()
        }
        for (const way of Object.values(ways)) assert.strictEqual(yield* reasonOf(way), "ConnectionNotOpen")
        assert.strictEqual(connection.sendUnsafe("a"), "NotOpen")
        if (state === "Closing") yield* answerClose(peer)
        assert.deepStrictEqual(yield* remainingFrames(peer), [])
      })
  )

  it.effect.each(["close", "reset"] as const)(
    "suspended senders fail, and nothing of theirs is sent (%s)",
    (how) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* openFull()
        yield* Effect.replicateEffect(connection.sendPing(), 64)
        const senders = yield* Effect.forEach([
          connection.send("c"),
          connection.sendAll(["d", "e"]),
          connection.sendPing(),
          connection.ping
        ], (sending) => start(reasonOf(sending)))
        if (how === "close") yield* start(connection.close())
        else yield* peer.reset
        for (const sender of senders) assert.strictEqual(yield* Fiber.join(sender), "ConnectionNotOpen")
        yield* peer.demand(Infinity)
        if (how === "close") {
          const sent = yield* frames(peer, 68)
          assert.deepStrictEqual([sent[0], ...sent.slice(65)], ["text first", "text a", "text b", "close 1000"])
        }
      })
  )
})
