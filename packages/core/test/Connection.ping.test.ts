import type { ControlFrame } from "@effect-ws/core/Connection"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Scheduler, Stream } from "effect"
import { TestClock } from "effect/testing"
import { answerClose, control, frames, isWaiting, open, openStalled, roles, settle, start } from "./fixture.ts"

const pong = (payload: Uint8Array) => control(Opcode.pong, ...payload)

describe("ping", () => {
  it.effect.each(roles)("§5.5.2: resolves with the time until its own pong (%s)", (role) =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ role })
      const pinging = yield* start(connection.ping)
      const { opcode, payload } = yield* peer.frame
      assert.strictEqual(opcode, Opcode.ping)
      yield* TestClock.adjust("1234 millis")
      assert.isTrue(yield* isWaiting(pinging))
      yield* peer.send(pong(payload))
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(pinging)), 1234)
    }))

  it.effect("§5.5.3: pings at the same time are told apart by their payload", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const first = yield* start(connection.ping)
      const firstPayload = (yield* peer.frame).payload
      yield* TestClock.adjust("1 second")
      const second = yield* start(connection.ping)
      const secondPayload = (yield* peer.frame).payload
      assert.notDeepEqual(firstPayload, secondPayload)
      yield* TestClock.adjust("1 second")
      yield* peer.send(pong(firstPayload))
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(first)), 2000)
      assert.isTrue(yield* isWaiting(second))
      yield* TestClock.adjust("1 second")
      yield* peer.send(pong(secondPayload))
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(second)), 2000)
    }))

  it.effect("§5.5.3: a pong answers earlier pings too: a peer may answer only the latest", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const first = yield* start(connection.ping)
      yield* peer.frame
      yield* TestClock.adjust("1 second")
      const second = yield* start(connection.ping)
      const { payload } = yield* peer.frame
      yield* TestClock.adjust("1 second")
      yield* peer.send(pong(payload))
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(first)), 2000)
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(second)), 1000)
    }))

  it.effect("§5.5.3: pongs that nobody asked for are ignored", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const pinging = yield* start(connection.ping)
      const { payload } = yield* peer.frame
      const unborn = Uint8Array.from(payload, (byte) => byte ^ 1)
      for (const foreign of [[], [1], [...payload, 0], [...payload.subarray(1)], [255, 255, 255, 255], [...unborn]]) {
        yield* peer.send(control(Opcode.pong, ...foreign))
      }
      assert.isTrue(yield* isWaiting(pinging))
      yield* peer.send(pong(payload))
      yield* Fiber.join(pinging)
      // The same pong again is no longer awaited.
      yield* peer.send(pong(payload))
      const next = yield* start(connection.ping)
      assert.isTrue(yield* isWaiting(next))
    }))

  it.effect("an interrupted ping is forgotten, and its pong does no harm", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const forgotten = yield* start(connection.ping)
      const { payload } = yield* peer.frame
      yield* Fiber.interrupt(forgotten)
      yield* peer.send(pong(payload))
      const pinging = yield* start(connection.ping)
      const next = (yield* peer.frame).payload
      assert.isTrue(yield* isWaiting(pinging))
      yield* peer.send(pong(next))
      yield* Fiber.join(pinging)
    }))

  it.effect("the round trip includes the wait for the transport", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled()
      yield* connection.send("first")
      yield* settle
      const pinging = yield* start(connection.ping)
      yield* TestClock.adjust("3 seconds")
      yield* peer.demand(Infinity)
      yield* peer.frame
      yield* peer.send(pong((yield* peer.frame).payload))
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(pinging)), 3000)
    }))

  it.effect("fails when the connection ends before the pong", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const pinging = yield* start(Effect.flip(connection.ping))
      yield* peer.frame
      yield* peer.reset
      assert.strictEqual((yield* Fiber.join(pinging)).reason._tag, "ConnectionNotOpen")
    }))

  it.effect("the pong may come before the ping has gone on to wait for it", () =>
    Effect.forEach([3, 4, 5, 6, 7, 8], (steps) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open()
        const pinging = yield* connection.ping.pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, steps), start)
        yield* peer.send(pong((yield* peer.frame).payload))
        yield* Fiber.join(pinging)
      })))

  it.effect("fails at whichever of its steps the connection ends", () =>
    Effect.forEach(Array.from({ length: 30 }, (_, index) => index), (steps) =>
      Effect.scoped(Effect.gen(function*() {
        const { connection, peer } = yield* open()
        // A fiber that has to yield again and again can be overtaken anywhere.
        const pinging = yield* Effect.flip(connection.ping).pipe(
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 4),
          start
        )
        yield* Effect.replicateEffect(Effect.yieldNow, steps)
        yield* peer.reset
        assert.strictEqual((yield* Fiber.join(pinging)).reason._tag, "ConnectionNotOpen")
      }))))
})

describe("sendPing and sendPong", () => {
  it.effect("§5.5: carry up to 125 bytes", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const longest = new Uint8Array(125).fill(7)
      yield* connection.sendPing(longest)
      yield* connection.sendPong(longest)
      yield* connection.sendPing()
      yield* connection.sendPong()
      assert.deepStrictEqual(yield* frames(peer, 4), [
        `ping ${longest.join()}`,
        `pong ${longest.join()}`,
        "ping",
        "pong"
      ])
    }))

  it.effect("§5.5: a longer payload is a typed error, and nothing is sent", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      for (const sending of [connection.sendPing(new Uint8Array(126)), connection.sendPong(new Uint8Array(126))]) {
        const error = yield* Effect.flip(sending)
        assert.deepInclude(error.reason, { _tag: "ControlPayloadTooLong", bytes: 126 })
      }
      yield* connection.send("a")
      assert.deepStrictEqual(yield* frames(peer, 1), ["text a"])
    }))
})

describe("controls", () => {
  it.effect("tells the Pings and Pongs that arrive, and ends with the connection", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const watching = yield* Effect.all([
        start(Stream.runCollect(connection.controls)),
        start(Stream.runCollect(connection.controls))
      ])
      yield* peer.send(control(Opcode.ping, 1), control(Opcode.pong, 2), control(Opcode.ping))
      yield* settle
      yield* start(connection.close())
      yield* frames(peer, 2)
      yield* answerClose(peer)
      for (const fiber of watching) {
        assert.deepStrictEqual(yield* Fiber.join(fiber), [
          { _tag: "Ping", payload: Uint8Array.of(1) },
          { _tag: "Pong", payload: Uint8Array.of(2) },
          { _tag: "Ping", payload: new Uint8Array(0) }
        ])
      }
      assert.deepStrictEqual(yield* Stream.runCollect(connection.controls), [])
    }))

  it.effect("a slow observer misses the oldest of more than 64", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const seen: Array<ControlFrame> = []
      const watching = yield* connection.controls.pipe(
        Stream.runForEach((frame) => Effect.andThen(Effect.sleep("1 second"), Effect.sync(() => seen.push(frame)))),
        start
      )
      yield* peer.send(control(Opcode.pong, 255))
      yield* settle
      yield* peer.send(...Array.from({ length: 100 }, (_, index) => control(Opcode.pong, index)))
      yield* settle
      yield* peer.reset
      yield* TestClock.adjust("2 minutes")
      yield* Fiber.join(watching)
      assert.deepStrictEqual(
        seen.map(({ payload }) => payload[0]),
        [255, ...Array.from({ length: 64 }, (_, index) => 36 + index)]
      )
    }))
})
