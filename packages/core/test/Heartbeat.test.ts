import * as Heartbeat from "@effect-ws/core/Heartbeat"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { control, frames, open, type Options, roles, settle, start } from "./fixture.ts"

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
      yield* peer.stall
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

/** A clock that moves when it is told to, and counts who sleeps by it. */
const makeClock = () => {
  let now = 0
  const clock = { wakeUps: 0, sleeping: new Set<{ readonly until: number; readonly wake: () => void }>() }
  const due = () => [...clock.sleeping].toSorted((a, b) => a.until - b.until)[0]
  const wake = (entry: { readonly wake: () => void }) => {
    clock.wakeUps++
    entry.wake()
  }
  const service: Clock.Clock = {
    currentTimeMillisUnsafe: () => now,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
    currentTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
    monotonicTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
    monotonicTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
    sleep: (duration) =>
      Effect.callback((resume) => {
        const entry = {
          until: now + Duration.toMillis(duration),
          wake: () => {
            clock.sleeping.delete(entry)
            resume(Effect.void)
          }
        }
        clock.sleeping.add(entry)
        return Effect.sync(() => clock.sleeping.delete(entry))
      })
  }
  return Object.assign(clock, {
    service,
    now: () => now,
    /** Time passes, and everybody wakes up when it is time. */
    pass: (millis: number) =>
      Effect.gen(function*() {
        const end = now + millis
        for (let next = due(); next !== undefined && next.until <= end; next = due()) {
          now = next.until
          wake(next)
          yield* settle
        }
        now = end
      }),
    /** The event loop stands still, and whoever should have woken up meanwhile wakes up late. */
    stall: (millis: number) =>
      Effect.gen(function*() {
        now += millis
        for (const entry of clock.sleeping) if (entry.until <= now) wake(entry)
        yield* settle
      })
  })
}

/** A member that notes what happens to it, and when. */
const makeMember = (clock: ReturnType<typeof makeClock>) => {
  const log: Array<string> = []
  return {
    log,
    isReading: true,
    lastReceived: clock.now(),
    sendHeartbeat: () => void log.push(`ping ${clock.now()}`),
    heartbeatLost: () => void log.push(`lost ${clock.now()}`)
  }
}

const makeHeartbeat = Effect.fnUntraced(function*(options?: Heartbeat.Options) {
  const clock = makeClock()
  const scope = yield* Effect.scope
  const heartbeat = yield* Heartbeat.make(options).pipe(Effect.provideService(Clock.Clock, clock.service))
  yield* settle
  const add = () => {
    const member = makeMember(clock)
    heartbeat.add(member)
    return member
  }
  return { add, clock, heartbeat, scope }
})

describe("a heartbeat for many", () => {
  it.effect("interval and timeout are options", () =>
    Effect.gen(function*() {
      const { add, clock } = yield* makeHeartbeat({ interval: "10 seconds", timeout: "3 seconds" })
      const member = add()
      yield* clock.pass(60_000)
      assert.deepStrictEqual(member.log, ["ping 10000", "lost 13000"])
    }))

  it.effect("many members share their wake-ups, and none is more than a twentieth late", () =>
    Effect.gen(function*() {
      const { add, clock } = yield* makeHeartbeat()
      const members: Array<ReturnType<typeof makeMember>> = []
      for (let index = 0; index < 1000; index++) {
        members.push(add())
        yield* clock.pass(17)
      }
      const before = clock.wakeUps
      yield* clock.pass(60_000)
      assert.isAtMost(clock.wakeUps - before, 61)
      for (const [index, { log }] of members.entries()) {
        const [ping, lost] = log.map((line) => Number(line.split(" ")[1]))
        assert.isTrue(ping! >= index * 17 + 20_000 && ping! <= index * 17 + 21_000, log.join())
        assert.isTrue(lost! >= ping! + 20_000 && lost! <= ping! + 21_000, log.join())
        assert.strictEqual(log.length, 2)
      }
    }))

  it.effect("an idle heartbeat does not wake up, and one fiber serves all", () =>
    Effect.gen(function*() {
      const { add, clock, heartbeat } = yield* makeHeartbeat()
      assert.strictEqual(clock.sleeping.size, 0)
      const members = [add(), add(), add()]
      yield* settle
      assert.strictEqual(clock.sleeping.size, 1)
      for (const member of members) heartbeat.remove(member)
      yield* clock.pass(20_000)
      assert.strictEqual(clock.sleeping.size, 0)
      assert.deepStrictEqual(members.flatMap(({ log }) => log), [])
      const late = add()
      yield* clock.pass(20_000)
      assert.deepStrictEqual(late.log, ["ping 40000"])
    }))

  it.effect("a member that is added while the heartbeat sleeps is looked after in time", () =>
    Effect.gen(function*() {
      const { add, clock } = yield* makeHeartbeat()
      const first = add()
      yield* clock.pass(500)
      const second = add()
      yield* clock.pass(60_000)
      assert.deepStrictEqual(first.log, ["ping 20000", "lost 40000"])
      assert.deepStrictEqual(second.log, ["ping 21000", "lost 41000"])
    }))

  it.effect("a member that is removed is left alone", () =>
    Effect.gen(function*() {
      const { add, clock, heartbeat } = yield* makeHeartbeat()
      const kept = add()
      const removed = add()
      yield* clock.pass(30_000)
      heartbeat.remove(removed)
      yield* clock.pass(30_000)
      assert.deepStrictEqual(removed.log, ["ping 20000"])
      assert.deepStrictEqual(kept.log, ["ping 20000", "lost 40000"])
    }))

  it.effect("it ends with its scope", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { add, clock } = yield* Scope.provide(makeHeartbeat(), scope)
      add()
      yield* settle
      assert.strictEqual(clock.sleeping.size, 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(clock.sleeping.size, 0)
    }))
})

describe("a stalled event loop is not held against the peer", () => {
  it.effect("an answer that waits unread when the heartbeat wakes up late is in time", () =>
    Effect.gen(function*() {
      const { add, clock } = yield* makeHeartbeat()
      const member = add()
      yield* clock.pass(20_000)
      yield* clock.stall(25_000)
      assert.deepStrictEqual(member.log, ["ping 20000"])
      member.lastReceived = clock.now()
      yield* clock.pass(20_000)
      assert.deepStrictEqual(member.log, ["ping 20000", "ping 65000"])
    }))

  it.effect("an answer that came before the stall is not forgotten", () =>
    Effect.gen(function*() {
      const { add, clock } = yield* makeHeartbeat()
      const member = add()
      yield* clock.pass(20_000)
      yield* clock.pass(100)
      member.lastReceived = clock.now()
      yield* clock.stall(25_000)
      yield* clock.pass(19_000)
      assert.isTrue(member.log.every((line) => line.startsWith("ping")), member.log.join())
    }))

  it.effect("an answer that waits unread is in time though the wake-up itself is hardly late", () =>
    Effect.gen(function*() {
      const { add, clock } = yield* makeHeartbeat()
      const member = add()
      yield* clock.pass(20_000)
      // Sockets are read after the timers, in the same turn of the event loop.
      setImmediate(() => {
        member.lastReceived = clock.now()
      })
      yield* clock.stall(20_500)
      yield* clock.pass(1000)
      assert.deepStrictEqual(member.log, ["ping 20000"])
    }))

  it.effect("a peer that stays silent is dropped all the same", () =>
    Effect.gen(function*() {
      const { add, clock } = yield* makeHeartbeat()
      const member = add()
      yield* clock.pass(20_000)
      yield* clock.stall(25_000)
      yield* clock.pass(20_000)
      assert.match(member.log.join(), /^ping 20000,lost \d+$/)
    }))
})
