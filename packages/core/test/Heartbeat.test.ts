import * as Heartbeat from "@effect-ws/core/Heartbeat"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Schema, Scope } from "effect"
import * as Arbitrary from "effect/Arbitrary"
import { settle } from "./fixture.ts"

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
    pingedAt: undefined,
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
    return Object.assign(member, { place: heartbeat.add(member) })
  }
  return { add, clock, heartbeat, scope }
})

// Who comes, or the number of one who leaves.
const Step = Schema.Union([Schema.Literal("comes"), Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 }))])

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
      for (const { place } of members) heartbeat.remove(place)
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

  it.effect("so is one that is added while the heartbeat waits for a longer timeout", () =>
    Effect.gen(function*() {
      const { add, clock } = yield* makeHeartbeat({ interval: "5 seconds", timeout: "60 seconds" })
      const first = add()
      yield* clock.pass(6000)
      const second = add()
      yield* clock.pass(60_000)
      assert.deepStrictEqual(first.log, ["ping 5000", "lost 65000"])
      assert.deepStrictEqual(second.log, ["ping 11000"])
    }))

  it.effect("a member that is removed is left alone", () =>
    Effect.gen(function*() {
      const { add, clock, heartbeat } = yield* makeHeartbeat()
      const kept = add()
      const removed = add()
      yield* clock.pass(30_000)
      heartbeat.remove(removed.place)
      yield* clock.pass(30_000)
      assert.deepStrictEqual(removed.log, ["ping 20000"])
      assert.deepStrictEqual(kept.log, ["ping 20000", "lost 40000"])
    }))

  it.effect.prop(
    "whoever is there is looked after, and nobody else, in whatever order they come and go",
    { steps: Arbitrary.array(Arbitrary.schema(Step), { maxLength: 60 }) },
    ({ steps }) =>
      Effect.gen(function*() {
        const { add, clock, heartbeat } = yield* makeHeartbeat()
        const all: Array<ReturnType<typeof add>> = []
        const present = new Set<ReturnType<typeof add>>()
        for (const step of steps) {
          if (step === "comes") {
            const member = add()
            all.push(member)
            present.add(member)
          } else if (all.length > 0) {
            // Perhaps one who has left before.
            const member = all[step % all.length]!
            heartbeat.remove(member.place)
            present.delete(member)
          }
        }
        yield* clock.pass(20_000)
        for (const member of all) assert.deepStrictEqual(member.log, present.has(member) ? ["ping 20000"] : [])
      })
  )

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

  it.effect("the delay is added to the time that others have", () =>
    Effect.gen(function*() {
      const { add, clock } = yield* makeHeartbeat()
      const first = add()
      yield* clock.pass(10_000)
      const second = add()
      yield* clock.pass(15_000)
      first.lastReceived = clock.now()
      yield* clock.pass(10_000)
      assert.deepStrictEqual(second.log, ["ping 30000"])
      // The next wake-up is due at 45 seconds, and 4 seconds late.
      yield* clock.stall(14_000)
      yield* clock.pass(4000)
      assert.deepStrictEqual(second.log, ["ping 30000"])
      yield* clock.pass(2000)
      assert.deepStrictEqual(second.log, ["ping 30000", "lost 54000"])
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
