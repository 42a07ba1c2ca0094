/**
 * Real time, where the clock may be that of a test.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { hasProperty } from "effect/Predicate"
import * as TestClock from "effect/testing/TestClock"

/** Tells whether time is that of a test. */
export const isTestClock: Effect.Effect<boolean> = Clock.clockWith((clock) =>
  Effect.succeed(hasProperty(clock, "adjust"))
)

/** Waits in real time. */
export const sleep = (millis: number): Effect.Effect<void> =>
  Effect.flatMap(
    isTestClock,
    (isTestTime) => isTestTime ? TestClock.withLive(Effect.sleep(millis)) : Effect.sleep(millis)
  )

/** Waits until what has not come by now is taken not to come. */
export const patience: Effect.Effect<void> = sleep(3000)

/** What comes of an effect, if it comes in time. */
export const inTime = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Option.Option<A>, E, R> =>
  Effect.raceFirst(Effect.asSome(effect), Effect.as(patience, Option.none()))
