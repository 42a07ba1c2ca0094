/**
 * Ends of tests: connections that are released while nobody lets the time pass.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { isTestClock, sleep } from "./realTime.ts"

/**
 * Lets the time pass while `isPending` holds, once nothing else goes on: time stands still, and so does `progress`, for 50
 * milliseconds of real time and then for a hundred turns of the scheduler.
 *
 * A test whose fiber waits for the release of its connections cannot call `TestClock.adjust`. Over a link with latency, or
 * one that is cut, that release would wait for ever, and hide why the test failed. Whether a fiber waits for this release,
 * or is about to adjust the clock, nobody can see: so everybody who can go on has to have had the chance, however slow the
 * machine is. The real time is for those who wait for something real.
 */
export const makeWatch: (
  isPending: () => boolean,
  progress: () => number
) => Effect.Effect<Effect.Effect<void>, never, Scope.Scope> = Effect.fnUntraced(function*(isPending, progress) {
  if (!(yield* isTestClock)) return Effect.void
  const clock = yield* Clock.Clock
  const run = yield* FiberHandle.runtime(yield* FiberHandle.make<void>())()
  const watch = Effect.gen(function*() {
    while (isPending()) {
      const time = clock.currentTimeMillisUnsafe()
      const before = progress()
      yield* sleep(50)
      yield* Effect.repeat(Effect.yieldNow, { times: 100 })
      if (clock.currentTimeMillisUnsafe() !== time || progress() !== before) continue
      while (isPending()) yield* TestClock.adjust("10 millis")
    }
  })
  return Effect.sync(() => {
    if (isPending()) run(watch, { onlyIfMissing: true })
  })
})
