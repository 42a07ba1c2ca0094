import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Scheduler, Stream } from "effect"
import { answerClose, frames, isWaiting, open, openStalled, reasonOf, settle, source, start } from "./fixture.ts"

describe("a streamed message that cannot be completed", () => {
  const failing = Stream.fail("broken" as const)

  it.effect("a stream that fails before its first element sends nothing, and the connection goes on", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      assert.strictEqual(
        yield* Effect.flip(connection.sendStream(failing as Stream.Stream<string, "broken">)),
        "broken"
      )
      yield* connection.sendStream(Stream.make("a"))
      assert.deepStrictEqual(yield* frames(peer, 2), ["text... a", "continuation"])
    }))

  it.effect("so does one that is interrupted before", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const sending = yield* start(connection.sendStream(Stream.never as Stream.Stream<string>))
      yield* settle
      yield* Fiber.interrupt(sending)
      yield* connection.send("a")
      assert.deepStrictEqual(yield* frames(peer, 1), ["text a"])
    }))

  it.effect("so does one that is interrupted while its first fragment waits for room", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ maxQueuedBytes: 20 })
      yield* connection.send("first")
      yield* settle
      const sending = yield* start(connection.sendStream(Stream.make("x".repeat(20))))
      assert.isTrue(yield* isWaiting(sending))
      yield* Fiber.interrupt(sending)
      yield* connection.send("a")
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 2), ["text first", "text a"])
    }))

  it.effect("§7.4.1: one that fails after its first element closes the connection with 1011", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const sending = connection.sendStream(Stream.concat(Stream.make("a"), failing))
      assert.strictEqual(yield* Effect.flip(sending), "broken")
      assert.deepStrictEqual(yield* frames(peer, 1), ["text... a"])
      assert.strictEqual(yield* answerClose(peer), "close 1011 message not completed")
      yield* connection.closed
    }))

  it.effect("so does one that is interrupted then", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const { queue, stream } = yield* source
      const sending = yield* start(connection.sendStream(stream))
      yield* Queue.offer(queue, "a")
      yield* settle
      yield* Fiber.interrupt(sending)
      assert.deepStrictEqual(yield* frames(peer, 1), ["text... a"])
      assert.strictEqual(yield* answerClose(peer), "close 1011 message not completed")
    }))

  it.effect("messages that were accepted before it are sent all the same", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled()
      yield* connection.send("first")
      yield* settle
      yield* connection.send("a")
      yield* Effect.flip(connection.sendStream(Stream.concat(Stream.make("b"), failing)))
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 4), [
        "text first",
        "text a",
        "text... b",
        "close 1011 message not completed"
      ])
    }))

  it.effect("messages that waited behind it are not sent, and drained says so", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const { queue, stream } = yield* source
      const sending = yield* start(connection.sendStream(stream))
      yield* Queue.offer(queue, "a")
      yield* settle
      yield* connection.send("behind")
      const draining = yield* start(reasonOf(connection.drained))
      yield* Fiber.interrupt(sending)
      assert.deepStrictEqual(yield* frames(peer, 2), ["text... a", "close 1011 message not completed"])
      assert.strictEqual(yield* Fiber.join(draining), "ConnectionNotOpen")
    }))

  it.effect.each(["local", "remote", "reset"] as const)(
    "closing does not wait for the rest of it (%s)",
    (how) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open()
        const { queue, stream } = yield* source
        const sending = yield* start(reasonOf(connection.sendStream(stream)))
        const next = yield* start(reasonOf(connection.sendStream(Stream.make("next"))))
        yield* Queue.offer(queue, "a")
        yield* settle
        if (how === "local") yield* start(connection.close(4000))
        else if (how === "remote") yield* peer.sendClose(4000)
        else yield* peer.reset
        assert.strictEqual(yield* Fiber.join(sending), "ConnectionNotOpen")
        assert.strictEqual(yield* Fiber.join(next), "ConnectionNotOpen")
        if (how === "reset") return
        assert.deepStrictEqual(yield* frames(peer, 2), ["text... a", "close 4000"])
      })
  )

  it.effect("a fragment that waits for room is given up when closing begins", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ maxQueuedBytes: 20 })
      const sending = yield* start(reasonOf(connection.sendStream(Stream.make("a", "x".repeat(20)))))
      yield* settle
      yield* start(connection.close())
      assert.strictEqual(yield* Fiber.join(sending), "ConnectionNotOpen")
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 2), ["text... a", "close 1000"])
    }))

  it.effect("interrupted at any of its steps, it was sent whole or not at all, or the connection ends", () =>
    Effect.forEach(Array.from({ length: 80 }, (_, index) => index), (steps) =>
      Effect.scoped(Effect.gen(function*() {
        const { connection, peer } = yield* open()
        // A fiber that has to yield again and again can be interrupted anywhere.
        const sending = yield* connection.sendStream(Stream.make("a", "b")).pipe(
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 4),
          start
        )
        yield* Effect.replicateEffect(Effect.yieldNow, steps)
        yield* Fiber.interrupt(sending)
        if (connection.sendUnsafe("next") === "NotOpen") {
          const [first, second] = yield* frames(peer, 2)
          assert.strictEqual(first, "text... a")
          const last = second === "continuation... b" ? (yield* frames(peer, 1))[0] : second
          assert.strictEqual(last, "close 1011 message not completed")
        } else {
          const [first] = yield* frames(peer, 1)
          if (first === "text next") return "nothing"
          assert.deepStrictEqual([first, ...yield* frames(peer, 3)], [
            "text... a",
            "continuation... b",
            "continuation",
            "text next"
          ])
          return "all"
        }
        return "torn"
      }))).pipe(
        Effect.map((outcomes) => assert.deepStrictEqual([...new Set(outcomes)], ["nothing", "torn", "all"]))
      ))
})
