import type { Connection } from "@effect-ws/core/Connection"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  answerClose,
  control,
  frames,
  isWaiting,
  open,
  openStalled,
  remainingFrames,
  roles,
  settle,
  start
} from "./fixture.ts"

const eventOf = (connection: Connection) => Effect.map(connection.closed, (event) => ({ ...event }))

const lost = { code: 1006, reason: "", wasClean: false }

describe("close", () => {
  it.effect.each(roles)("§7.1.2: what is queued leaves first, then Close (%s)", (role) =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ role })
      yield* connection.send("first")
      yield* settle
      yield* connection.sendAll(["a", "b"])
      yield* connection.sendPing(Uint8Array.of(1))
      const closing = yield* start(connection.close(4001, "enough"))
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 4), ["text first", "ping 1", "text a", "text b"])
      assert.strictEqual(yield* answerClose(peer), "close 4001 enough")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* eventOf(connection), {
        code: 4001,
        reason: "enough",
        wasClean: true,
        initiator: "Local"
      })
    }))

  it.effect("the default is 1000 without a reason", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* start(connection.close())
      assert.deepStrictEqual((yield* peer.frame).payload, Uint8Array.of(1000 >>> 8, 1000 & 255))
    }))

  it.effect("§7.1.5: the code of the connection is that of the peer's Close", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* start(connection.close(1000, "mine"))
      yield* peer.sendClose(4002, "theirs")
      yield* peer.end
      assert.deepStrictEqual(yield* eventOf(connection), {
        code: 4002,
        reason: "theirs",
        wasClean: true,
        initiator: "Local"
      })
    }))

  it.effect("closing again, or at the same time, sends one Close and waits for the same end", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const first = yield* start(connection.close(4001))
      const second = yield* start(connection.close(4002))
      assert.isTrue(yield* isWaiting(second))
      assert.strictEqual(yield* answerClose(peer), "close 4001")
      yield* Fiber.joinAll([first, second])
      yield* connection.close(4003)
      assert.deepStrictEqual(yield* remainingFrames(peer), [])
    }))

  it.effect.each([999, 1004, 1005, 1006, 1015, 2999, 5000, 1000.5, NaN])(
    "§7.4: a code that may not travel is a typed error, and the connection goes on (%d)",
    (code) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open()
        const error = yield* Effect.flip(connection.close(code))
        assert.deepInclude(error.reason, { _tag: "InvalidCloseCode", code })
        assert.strictEqual(yield* connection.state, "Open")
        yield* connection.send("a")
        assert.deepStrictEqual(yield* frames(peer, 1), ["text a"])
      })
  )

  it.effect("§5.5: a reason of more than 123 bytes is a typed error, and the connection goes on", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      for (const reason of ["x".repeat(124), "ü".repeat(62)]) {
        const error = yield* Effect.flip(connection.close(1000, reason))
        assert.deepInclude(error.reason, { _tag: "CloseReasonTooLong", bytes: 124 })
      }
      yield* connection.send("a")
      yield* start(connection.close(1000, "x".repeat(123)))
      assert.deepStrictEqual(yield* frames(peer, 2), ["text a", `close 1000 ${"x".repeat(123)}`])
    }))

  it.effect("a peer that never answers is dropped after the close timeout", () =>
    Effect.gen(function*() {
      const { connection, wire } = yield* open()
      const closing = yield* start(connection.close())
      yield* TestClock.adjust("4999 millis")
      assert.isTrue(yield* isWaiting(closing))
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* eventOf(connection), { ...lost, initiator: "Local" })
      assert.deepStrictEqual(wire.calls, ["destroy"])
    }))

  it.effect("the close timeout is an option, and covers the draining", () =>
    Effect.gen(function*() {
      const { connection } = yield* openStalled({ closeTimeout: "1 second" })
      yield* connection.sendAll(["a", "b"])
      const closing = yield* start(connection.close())
      yield* TestClock.adjust("999 millis")
      assert.isTrue(yield* isWaiting(closing))
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* eventOf(connection), { ...lost, initiator: "Local" })
    }))

  it.effect.each(roles)(
    "§7.1.1: a peer that answers but keeps the socket open is dropped too (%s)",
    (role) =>
      Effect.gen(function*() {
        const { connection, peer, wire } = yield* open({ role })
        const closing = yield* start(connection.close())
        yield* peer.sendClose(1000)
        assert.isTrue(yield* isWaiting(closing))
        // It is up to the server to end the connection.
        assert.deepStrictEqual([...new Set(wire.calls)], role === "server" ? ["end"] : [])
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(yield* eventOf(connection), {
          code: 1000,
          reason: "",
          wasClean: true,
          initiator: "Local"
        })
      })
  )

  it.effect("an interrupted close goes on, and ends at the timeout", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const closing = yield* start(connection.close())
      yield* Fiber.interrupt(closing)
      assert.deepStrictEqual(yield* frames(peer, 1), ["close 1000"])
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* eventOf(connection), { ...lost, initiator: "Local" })
    }))

  it.effect("§5.5.1: messages that arrive after our Close are delivered", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* start(connection.close())
      yield* peer.sendText("a")
      yield* peer.sendText("b")
      yield* peer.sendClose(1000)
      yield* peer.end
      yield* connection.closed
      assert.deepStrictEqual(yield* Stream.runCollect(connection.messages), ["a", "b"])
    }))

  it.effect("§5.5.1: pings that arrive after our Close are not answered", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* start(connection.close())
      yield* peer.send(control(Opcode.ping, 1))
      assert.strictEqual(yield* answerClose(peer), "close 1000")
      assert.deepStrictEqual(yield* remainingFrames(peer), [])
    }))

  it.effect("the peer's Close is found behind more than the buffer holds, though nobody pulls", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ receiveBufferBytes: 200, link: { chunkBytes: 108 } })
      yield* peer.sendText(...Array.from({ length: 40 }, () => "x".repeat(48)))
      yield* settle
      yield* start(connection.close())
      yield* peer.sendClose(1000)
      yield* peer.end
      assert.deepInclude(yield* eventOf(connection), { code: 1000, wasClean: true })
      // Each read brings two messages that weigh 160 bytes; from the first read without room on, nothing is kept.
      assert.strictEqual((yield* Stream.runCollect(connection.messages)).length, 4)
    }))

  it.effect("after our Close, a message in the making takes no room from those before it", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ receiveBufferBytes: 100, link: { chunkBytes: 300 } })
      const closing = yield* start(connection.close())
      yield* peer.sendText("a", "x".repeat(500))
      yield* peer.sendClose(1000)
      yield* peer.end
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Stream.runCollect(connection.messages), ["a", "x".repeat(500)])
    }))

  it.effect("the peer's Close is found while paused", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* connection.pause
      yield* peer.sendText("a")
      const closing = yield* start(connection.close())
      yield* answerClose(peer)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Stream.runCollect(connection.messages), ["a"])
    }))
})

describe("the peer closes", () => {
  it.effect.each(roles)(
    "§5.5.1: it is answered with its own code, behind what is queued (%s)",
    (role) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* openStalled({ role })
        yield* connection.send("first")
        yield* settle
        yield* connection.send("a")
        yield* peer.sendClose(4001, "bye")
        yield* settle
        assert.strictEqual(yield* connection.state, "Closing")
        yield* peer.demand(Infinity)
        assert.deepStrictEqual(yield* frames(peer, 3), ["text first", "text a", "close 4001 bye"])
        yield* peer.end
        assert.deepStrictEqual(yield* eventOf(connection), {
          code: 4001,
          reason: "bye",
          wasClean: true,
          initiator: "Remote"
        })
      })
  )

  it.effect("§7.1.5: an empty Close is answered with an empty one, and is code 1005", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* peer.sendClose()
      yield* peer.end
      assert.deepStrictEqual(yield* remainingFrames(peer), ["close"])
      assert.deepStrictEqual(yield* eventOf(connection), {
        code: 1005,
        reason: "",
        wasClean: true,
        initiator: "Remote"
      })
    }))

  it.effect("§7.1.1: a server ends the TCP connection, a client lets it", () =>
    Effect.gen(function*() {
      for (const role of roles) {
        const { peer, wire } = yield* open({ role })
        yield* peer.sendClose(1000)
        yield* settle
        assert.deepStrictEqual([...new Set(wire.calls)], role === "server" ? ["end"] : [])
        yield* peer.end
        yield* settle
        assert.deepStrictEqual([...new Set(wire.calls)], ["end"])
      }
    }))

  it.effect("both sides close at once", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled()
      yield* connection.send("first")
      yield* settle
      yield* start(connection.close(4001))
      yield* peer.sendClose(4002)
      yield* settle
      yield* peer.demand(Infinity)
      yield* peer.end
      assert.deepStrictEqual(yield* remainingFrames(peer), ["text first", "close 4001"])
      assert.deepInclude(yield* eventOf(connection), { code: 4002, wasClean: true, initiator: "Local" })
    }))

  it.effect("a close that is unclean because our answer never left says so", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled()
      yield* connection.send("first")
      yield* settle
      yield* peer.sendClose(4001)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* eventOf(connection), {
        code: 4001,
        reason: "",
        wasClean: false,
        initiator: "Remote"
      })
    }))

  it.effect.each(["reset", "end"] as const)(
    "§7.1.5: a %s without a Close is code 1006",
    (how) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open()
        yield* peer[how]
        assert.deepStrictEqual(yield* eventOf(connection), { ...lost, initiator: "Remote" })
      })
  )

  it.effect.each(["reset", "end"] as const)("§7.1.5: so is a %s during our own close", (how) =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const closing = yield* start(connection.close())
      yield* settle
      yield* peer[how]
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* eventOf(connection), { ...lost, initiator: "Local" })
    }))
})
