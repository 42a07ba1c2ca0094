/**
 * How long to wait before the next attempt.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import type { Ending } from "../Reconnect.ts"

/** The delays of one series of attempts: what `Schedule.toStep` makes. */
export type Delays<R> = (now: number, ending: Ending) => Pull.Pull<[unknown, Duration.Duration], never, unknown, R>

/**
 * The schedule's delay, and what the ending adds to it, in whole milliseconds. Undefined if the schedule has ended.
 */
export const delayAfter = Effect.fnUntraced(
  function*<R>(ending: Ending, delays: Delays<R>, drainSpread: Duration.Duration) {
    const now = yield* Clock.currentTimeMillis
    const scheduled = yield* Pull.matchEffect(delays(now, ending), {
      onSuccess: ([_, duration]) => Effect.succeed(duration),
      onFailure: (cause) => Effect.failCause(cause),
      onDone: () => Effect.undefined
    })
    if (scheduled === undefined) return undefined
    const spread = isDraining(ending) ? Duration.times(drainSpread, yield* Random.next) : Duration.zero
    const delay = Duration.sum(Duration.sum(scheduled, spread), retryAfter(ending, now))
    return Duration.millis(Math.round(Duration.toMillis(delay)))
  }
)

// The server goes away, restarts, or has too much to do: all its clients are told at once.
const isDraining = (ending: Ending): boolean =>
  ending._tag === "ConnectionEnded" && [1001, 1012, 1013].includes(ending.closeEvent.code)

// A server may be wrong about the time, or about us.
const longest = Duration.hours(1)

// The `Retry-After` of a rejection (RFC 9110, section 10.2.3), in seconds or as a date.
const retryAfter = (ending: Ending, now: number): Duration.Duration => {
  if (ending._tag !== "ConnectError" || ending.reason._tag !== "UpgradeRejected") return Duration.zero
  const value = ending.reason.headers["retry-after"]?.trim()
  if (value === undefined) return Duration.zero
  if (/^\d+$/.test(value)) return Duration.min(Duration.seconds(Number(value)), longest)
  // `DateTime` reads much more than the dates of HTTP.
  const date = /^[A-Z][a-z]+, .+ GMT$/.test(value) ? DateTime.make(value) : Option.none()
  return Option.match(date, {
    onNone: () => Duration.zero,
    onSome: ({ epochMilliseconds }) =>
      Duration.clamp(Duration.millis(epochMilliseconds - now), { minimum: Duration.zero, maximum: longest })
  })
}
