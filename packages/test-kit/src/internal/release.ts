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
import { isTestClock } from "./realTime.ts"

/**
 * Lets the time pass once it has stood still for 50 milliseconds of real time while `isPending` holds.
 *
 * A test whose fiber waits for the release of its connections cannot call `TestClock.adjust`. Over a link with latency, or
 * one that is cut, that release would wait for ever, and hide why the test failed.
 */
export const makeWatch: (isPending: () => boolean) => Effect.Effect<Effect.Effect<void>, never, Scope.Scope> = Effect
  .fnUntraced(function*(isPending) {
    if (!(yield* isTestClock)) return Effect.void
    const clock = yield* Clock.Clock
    const run = yield* FiberHandle.runtime(yield* FiberHandle.make<void>())()
    const watch = Effect.gen(function*() {
      while (isPending()) {
        const before = clock.currentTimeMillisUnsafe()
        yield* TestClock.withLive(Effect.sleep("50 millis"))
        if (clock.currentTimeMillisUnsafe() !== before) continue
        while (isPending()) yield* TestClock.adjust("10 millis")
      }
    })
    return Effect.sync(() => {
      if (isPending()) run(watch, { onlyIfMissing: true })
    })
  })
