import * as Heartbeat from "@effect-ws/core/Heartbeat"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import { control, frames, isWaiting, open, type Options, roles, settle, start } from "./fixture.ts"

const openWatched = Effect.fnUntraced(function*(options?: Options) {
  const heartbeat = yield* Heartbeat.make()
  return yield* open({ heartbeat, ...options })
})

describe("the heartbeat of a connection", () => {
  it.effect.each(roles)(
    "pings after 20 seconds of silence, and drops the connection after 20 more (%s)",
    (role) =>
      Effect.gen(function*() {
        const { connection, peer, wire } = yield* openWatched({ role })
        yield* TestClock.adjust("19999 millis")
        assert.deepStrictEqual(wire.writes, [])
        yield* TestClock.adjust("1 millis")
        assert.strictEqual((yield* peer.frame).opcode, Opcode.ping)
        yield* TestClock.adjust("19999 millis")
        assert.strictEqual(yield* connection.state, "Open")
        yield* TestClock.adjust("1 millis")
        assert.deepStrictEqual(wire.calls, ["destroy"])
        assert.strictEqual(wire.writes.length, 1)
        const error = yield* Effect.flip(Stream.runDrain(connection.messages))
        assert.strictEqual(error.reason._tag, "HeartbeatTimeout")
        assert.deepInclude(error.closeEvent, { code: 1006, wasClean: false, initiator: "Local" })
      })
  )

  it.effect("any byte that arrives counts as life, before the ping and after it", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* openWatched()
      yield* TestClock.adjust("10 seconds")
      // Half a header, and later the other half.
      yield* peer.sendBytes(Uint8Array.of(0x81))
      yield* TestClock.adjust("19999 millis")
      assert.deepStrictEqual(wire.writes, [])
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(wire.writes.length, 1)
      yield* TestClock.adjust("19 seconds")
      yield* peer.sendBytes(Uint8Array.of(0x80))
      yield* TestClock.adjust("19 seconds")
      assert.strictEqual(yield* connection.state, "Open")
      assert.strictEqual(wire.writes.length, 1)
    }))

  it.effect("a peer that answers is kept for ever, at one ping each time", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* openWatched()
      for (let round = 1; round <= 20; round++) {
        yield* TestClock.adjust("20 seconds")
        const { opcode, payload } = yield* peer.frame
        assert.strictEqual(opcode, Opcode.ping)
        yield* peer.send(control(Opcode.pong, ...payload))
        yield* settle
      }
      assert.strictEqual(yield* connection.state, "Open")
      assert.strictEqual(wire.writes.length, 20)
    }))

  it.effect("the pong of its ping answers a ping before it: a peer may answer only the latest (section 5.5.3)", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWatched()
      const pinging = yield* start(connection.ping)
      yield* peer.frame
      yield* TestClock.adjust("20 seconds")
      const { opcode, payload } = yield* peer.frame
      assert.strictEqual(opcode, Opcode.ping)
      yield* peer.send(control(Opcode.pong, ...payload))
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(pinging)), 20_000)
    }))

  it.effect("the pong of its ping does not answer a ping behind it", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWatched()
      yield* TestClock.adjust("20 seconds")
      const { payload } = yield* peer.frame
      const pinging = yield* start(connection.ping)
      yield* peer.send(control(Opcode.pong, ...payload))
      assert.isTrue(yield* isWaiting(pinging))
    }))

  it.effect.each(["paused", "full"] as const)(
    "silence does not count while we do not read (%s)",
    (why) =>
      Effect.gen(function*() {
        const { connection, peer, wire } = yield* openWatched({ receiveBufferBytes: 1 })
        if (why === "paused") yield* connection.pause
        else yield* peer.sendText("a")
        yield* TestClock.adjust("90 seconds")
        assert.strictEqual(yield* connection.state, "Open")
        assert.deepStrictEqual(wire.writes, [])
        if (why === "paused") yield* connection.resume
        else yield* connection.pull
        yield* TestClock.adjust("19 seconds")
        assert.deepStrictEqual(wire.writes, [])
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(wire.writes.length, 1)
        yield* TestClock.adjust("21 seconds")
        assert.strictEqual(yield* connection.state, "Closed")
      })
  )

  it.effect("a ping that is out when reading stops is not held against the peer", () =>
    Effect.gen(function*() {
      const { connection } = yield* openWatched()
      yield* TestClock.adjust("21 seconds")
      yield* connection.pause
      yield* TestClock.adjust("60 seconds")
      yield* connection.resume
      yield* TestClock.adjust("19 seconds")
      assert.strictEqual(yield* connection.state, "Open")
    }))

  it.effect("is over once closing has begun", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWatched({ closeTimeout: "10 minutes" })
      yield* TestClock.adjust("20 seconds")
      yield* start(connection.close())
      yield* TestClock.adjust("9 minutes")
      assert.strictEqual(yield* connection.state, "Closing")
      yield* peer.sendClose(1000)
      yield* peer.end
      assert.match((yield* frames(peer, 2)).join(), /^ping .*,close 1000$/)
    }))

  it.effect("its pings do not pile up while the peer does not read", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWatched({ link: { bufferBytes: 0 } })
      yield* peer.demand(0)
      yield* connection.send("first")
      for (let round = 0; round < 100; round++) {
        yield* TestClock.adjust("21 seconds")
        yield* peer.send(control(Opcode.pong))
        yield* settle
      }
      assert.strictEqual(yield* connection.state, "Open")
      assert.isAtMost(yield* connection.queuedBytes, 7 + 64 * 6)
    }))
})
