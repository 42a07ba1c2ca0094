import { Opcode } from "@effect-ws/core/protocol/Frame"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Stream } from "effect"
import { control, frames, isWaiting, open, openStalled, roles, settle, source, start } from "./fixture.ts"

describe("sendStream", () => {
  it.effect.each(roles)(
    "§5.4: the elements of a stream are the fragments of one message (%s)",
    (role) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open({ role })
        yield* connection.sendStream(Stream.make("ab", "", "ü"))
        yield* connection.sendStream(Stream.make(Uint8Array.of(65), Uint8Array.of(66, 67)))
        assert.deepStrictEqual(yield* frames(peer, 7), [
          "text... ab",
          "continuation...",
          "continuation... ü",
          "continuation",
          "binary... 65",
          "continuation... BC",
          "continuation"
        ])
      })
  )

  it.effect("§5.6: a surrogate pair that is split over two elements is one character", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const [high, low] = "😀".split("")
      yield* connection.sendStream(Stream.make(`a${high}`, `${low}b`, high!, "", low!))
      assert.deepStrictEqual(yield* frames(peer, 6), [
        "text... a",
        "continuation... 😀b",
        "continuation...",
        "continuation...",
        "continuation... 😀",
        "continuation"
      ])
    }))

  it.effect("a lone surrogate is sent as U+FFFD, also at the end", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* connection.sendStream(Stream.make("\ud83da", "b\ud83d"))
      assert.deepStrictEqual(yield* frames(peer, 3), ["text... \ufffda", "continuation... b", "continuation \ufffd"])
    }))

  it.effect("an empty stream sends nothing", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* connection.sendStream(Stream.empty)
      yield* connection.send("a")
      assert.deepStrictEqual(yield* frames(peer, 1), ["text a"])
    }))

  it.effect("a fragment is sent when the stream has it, not when the message is complete", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const { queue, stream } = yield* source
      const sending = yield* start(connection.sendStream(stream))
      yield* Queue.offer(queue, "a")
      assert.deepStrictEqual(yield* frames(peer, 1), ["text... a"])
      yield* Queue.end(queue)
      yield* Fiber.join(sending)
      assert.deepStrictEqual(yield* frames(peer, 1), ["continuation"])
    }))

  it.effect("what waits behind it is bounded too, and does not keep its fragments from being sent", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ maxQueuedBytes: 100 })
      const { queue, stream } = yield* source
      const sending = yield* start(connection.sendStream(stream))
      yield* Queue.offer(queue, "a")
      yield* settle
      const large = yield* start(connection.send("x".repeat(200)))
      assert.isTrue(yield* isWaiting(large))
      assert.strictEqual(yield* connection.queuedBytes, 0)
      yield* Queue.offer(queue, "b".repeat(200))
      yield* Queue.end(queue)
      yield* Fiber.join(sending)
      yield* Fiber.join(large)
      assert.deepStrictEqual(yield* frames(peer, 4), [
        "text... a",
        `continuation... ${"b".repeat(200)}`,
        "continuation",
        `text ${"x".repeat(200)}`
      ])
    }))

  it.effect("§5.4: control frames go in between, other messages wait and keep their order", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const { queue, stream } = yield* source
      const sending = yield* start(connection.sendStream(stream))
      yield* Queue.offer(queue, "a")
      yield* settle
      yield* connection.sendAll(["1", "2"])
      yield* connection.sendPing(Uint8Array.of(7))
      yield* peer.send(control(Opcode.ping, 8))
      assert.deepStrictEqual(yield* frames(peer, 3), ["text... a", "ping 7", "pong 8"])
      yield* Queue.offer(queue, "b")
      yield* settle
      assert.strictEqual(connection.sendUnsafe("3"), "Accepted")
      yield* Queue.end(queue)
      yield* Fiber.join(sending)
      yield* connection.send("4")
      assert.deepStrictEqual(yield* frames(peer, 6), [
        "continuation... b",
        "continuation",
        "text 1",
        "text 2",
        "text 3",
        "text 4"
      ])
    }))

  it.effect("messages sent before a stream leave before it", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled()
      yield* connection.send("first")
      yield* settle
      yield* connection.send("a")
      yield* connection.sendStream(Stream.make("b"))
      yield* connection.send("c")
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 5), ["text first", "text a", "text... b", "continuation", "text c"])
    }))

  it.effect("two streams follow each other", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const one = yield* source
      const two = yield* source
      const first = yield* start(connection.sendStream(one.stream))
      const second = yield* start(connection.sendStream(two.stream))
      yield* Queue.offer(one.queue, "1")
      yield* Queue.offer(two.queue, "2")
      yield* Queue.end(two.queue)
      assert.isTrue(yield* isWaiting(second))
      yield* Queue.end(one.queue)
      yield* Fiber.joinAll([first, second])
      assert.deepStrictEqual(yield* frames(peer, 4), ["text... 1", "continuation", "text... 2", "continuation"])
    }))

  it.effect("fragments suspend while the queue is full, and go on when the peer reads", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ maxQueuedBytes: 50 })
      yield* connection.send("first")
      yield* settle
      const sending = yield* start(connection.sendStream(Stream.make("x".repeat(30), "y".repeat(30), "z".repeat(100))))
      assert.isTrue(yield* isWaiting(sending))
      assert.strictEqual(yield* connection.queuedBytes, 7 + 32)
      yield* peer.demand(Infinity)
      yield* Fiber.join(sending)
      assert.deepStrictEqual(yield* frames(peer, 5), [
        "text first",
        `text... ${"x".repeat(30)}`,
        `continuation... ${"y".repeat(30)}`,
        `continuation... ${"z".repeat(100)}`,
        "continuation"
      ])
    }))

  it.effect("messages that wait behind a stream and fill the queue do not block it", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ maxQueuedMessages: 2, maxQueuedBytes: 20 })
      const { queue, stream } = yield* source
      const sending = yield* start(connection.sendStream(stream))
      yield* Queue.offer(queue, "a")
      yield* settle
      yield* connection.sendAll(["12345678", "12345678"])
      const waiting = yield* start(connection.send("later"))
      assert.isTrue(yield* isWaiting(waiting))
      yield* Queue.offerAll(queue, ["b", "c".repeat(100)])
      yield* Queue.end(queue)
      yield* Fiber.joinAll([sending, waiting])
      assert.deepStrictEqual(yield* frames(peer, 7), [
        "text... a",
        "continuation... b",
        `continuation... ${"c".repeat(100)}`,
        "continuation",
        "text 12345678",
        "text 12345678",
        "text later"
      ])
    }))
})
