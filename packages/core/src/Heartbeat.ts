/**
 * Finding out that a peer is gone when nothing tells.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"

/**
 * After how much silence a connection is pinged, and how long it may stay silent after that.
 *
 * **Details**
 *
 * 20 seconds each by default: within the idle limits of common proxies, and a dead peer is noticed in under a minute.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly interval?: Duration.Input | undefined
  readonly timeout?: Duration.Input | undefined
}

/**
 * A connection as its heartbeat sees it.
 *
 * **Details**
 *
 * `lastReceived` is when any byte last arrived, in milliseconds of the clock. While a connection `isReading` not, because
 * of its own consumer, the silence is not the peer's.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member {
  readonly isReading: boolean
  readonly lastReceived: number
  readonly sendHeartbeat: () => void
  readonly heartbeatLost: () => void
}

/**
 * The heartbeat of any number of connections.
 *
 * @category models
 * @since 0.1.0
 */
export interface Heartbeat {
  readonly add: (member: Member) => void
  readonly remove: (member: Member) => void
}

interface Watch {
  // When silence began to count, and when the last ping was sent: it is to be answered while that is the later of the two.
  since: number
  pingedAt: number
}

/**
 * Makes a heartbeat that serves many connections with one fiber and one timer.
 *
 * **Details**
 *
 * Every byte that arrives counts as life. When a deadline is reached late, because the event loop stood still, the delay
 * is added to the deadlines of all answers that are due, and nobody is given up before another look. Deadlines of many
 * connections are checked together, at most twenty times per interval.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (options?: Options) => Effect.Effect<Heartbeat, never, Scope.Scope> = Effect.fnUntraced(
  function*(options = {}) {
    const interval = Duration.toMillis(options.interval ?? "20 seconds")
    const timeout = Duration.toMillis(options.timeout ?? "20 seconds")
    const longest = Math.min(interval, timeout)
    const granularity = longest / 20
    const clock = yield* Clock.Clock
    const watches = new Map<Member, Watch>()
    const populated = Latch.makeUnsafe(false)

    // Does what is due for one connection, and returns when to look at it again.
    const check = (member: Member, watch: Watch, now: number, stalled: number): number => {
      watch.since = Math.max(watch.since, member.isReading ? member.lastReceived : now)
      if (watch.since < watch.pingedAt) {
        watch.pingedAt += stalled
        const deadline = watch.pingedAt + timeout
        if (now < deadline || stalled > 0) return deadline
        watches.delete(member)
        member.heartbeatLost()
        return Infinity
      }
      const deadline = watch.since + interval
      if (now < deadline) return deadline
      watch.pingedAt = now
      member.sendHeartbeat()
      return now + timeout
    }

    const checkAll = (expected: number): number => {
      const now = clock.currentTimeMillisUnsafe()
      const late = now - expected
      const stalled = late > granularity ? late : 0
      let next = now + longest
      for (const [member, watch] of watches) {
        next = Math.min(next, check(member, watch, now, stalled))
      }
      return Math.max(next, now + granularity)
    }

    yield* Effect.forkScoped(Effect.gen(function*() {
      while (true) {
        yield* populated.await
        let next = checkAll(clock.currentTimeMillisUnsafe())
        while (watches.size > 0) {
          yield* Effect.sleep(next - clock.currentTimeMillisUnsafe())
          // Timers come before sockets in a turn of the event loop, so what has arrived is read first.
          yield* Effect.yieldNow
          next = checkAll(next)
        }
        populated.closeUnsafe()
      }
    }))

    return {
      add: (member) => {
        watches.set(member, { since: clock.currentTimeMillisUnsafe(), pingedAt: -Infinity })
        populated.openUnsafe()
      },
      remove: (member) => {
        watches.delete(member)
      }
    }
  }
)
