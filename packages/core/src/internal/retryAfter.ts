/**
 * When a server that rejected a handshake wants to be asked again.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Ending } from "../Reconnect.ts"

// A server may be wrong about the time, or about us.
const longest = Duration.hours(1)

/** The `Retry-After` of a rejection (RFC 9110, section 10.2.3), in seconds or as a date; an hour at most. */
export const retryAfter = (ending: Ending, now: number): Duration.Duration => {
  if (ending._tag !== "ConnectError" || ending.reason._tag !== "UpgradeRejected") return Duration.zero
  const value = ending.reason.headers["retry-after"]?.trim()
  if (value === undefined) return Duration.zero
  if (/^\d+$/.test(value)) return Duration.min(Duration.seconds(Number(value)), longest)
  return Option.match(DateTime.make(value), {
    onNone: () => Duration.zero,
    onSome: (date) =>
      Duration.clamp(Duration.millis(date.epochMilliseconds - now), { minimum: Duration.zero, maximum: longest })
  })
}
