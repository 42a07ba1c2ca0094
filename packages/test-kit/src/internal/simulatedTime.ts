/**
 * A program in a time of its own, which passes when nothing else can happen.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Scheduler from "effect/Scheduler"

/** How a program came to rest. */
export type Rest<A, E> =
  | { readonly _tag: "Done"; readonly exit: Exit.Exit<A, E>; readonly millis: number; readonly timers: number }
  /** Nothing can happen any more, or nothing has come of it within the limit. */
  | { readonly _tag: "Stuck"; readonly millis: number; readonly timers: number }

interface Sleep {
  readonly due: number
  readonly wake: () => void
}

class SimulatedClock implements Clock.Clock {
  // Sorted, the earliest last; of those due at the same time, the first to sleep is the first to wake.
  private readonly sleeps: Array<Sleep> = []
  private now = 0

  readonly currentTimeMillis = Effect.sync(() => this.currentTimeMillisUnsafe())
  readonly currentTimeNanos = Effect.sync(() => this.currentTimeNanosUnsafe())
  readonly monotonicTimeNanos = Effect.sync(() => this.currentTimeNanosUnsafe())

  currentTimeMillisUnsafe(): number {
    return this.now
  }

  currentTimeNanosUnsafe(): bigint {
    return BigInt(Math.round(this.now * 1000)) * 1000n
  }

  monotonicTimeNanosUnsafe(): bigint {
    return this.currentTimeNanosUnsafe()
  }

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    const millis = Duration.toMillis(duration)
    if (millis <= 0) return Effect.yieldNow
    return Effect.callback((resume) => {
      const sleep: Sleep = { due: this.now + millis, wake: () => resume(Effect.void) }
      const at = this.sleeps.findIndex(({ due }) => due <= sleep.due)
      this.sleeps.splice(at === -1 ? this.sleeps.length : at, 0, sleep)
      return Effect.sync(() => {
        const index = this.sleeps.indexOf(sleep)
        if (index >= 0) this.sleeps.splice(index, 1)
      })
    })
  }

  get timers(): number {
    return this.sleeps.length
  }

  /** Wakes the one who is next, unless that is later than the limit. */
  advance(limit: number): boolean {
    const next = this.sleeps.at(-1)
    if (next === undefined || next.due > limit) return false
    this.sleeps.pop()
    this.now = next.due
    next.wake()
    return true
  }
}

// Fibers go on in microtasks: by the next task of the event loop, everything that can happen has happened.
const microtasks = new Scheduler.MixedScheduler("async", (f) => {
  let isCancelled = false
  queueMicrotask(() => {
    if (!isCancelled) f()
  })
  return () => {
    isCancelled = true
  }
})

/** Runs a program until it is done, or stuck, or the limit is reached. What happens is the same each time. */
export const run = <A, E>(effect: Effect.Effect<A, E>, limitMillis: number): Effect.Effect<Rest<A, E>> =>
  Effect.gen(function*() {
    const clock = new SimulatedClock()
    const context = Context.make(Clock.Clock, clock).pipe(Context.add(Scheduler.Scheduler, microtasks))
    const fiber = Effect.runForkWith(context)(effect)
    yield* Effect.yieldNow
    while (fiber.pollUnsafe() === undefined && clock.advance(limitMillis)) yield* Effect.yieldNow
    const exit = fiber.pollUnsafe()
    const millis = clock.currentTimeMillisUnsafe()
    if (exit === undefined) fiber.interruptUnsafe()
    const { timers } = clock
    return exit === undefined ? { _tag: "Stuck", millis, timers } : { _tag: "Done", exit, millis, timers }
  })
