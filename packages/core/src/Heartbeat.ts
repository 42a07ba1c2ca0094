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
import { type Place, Roster } from "./internal/roster.ts"

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
 * of its own consumer, the silence is not the peer's, and the heartbeat puts it forward. `pingedAt` is the heartbeat's own:
 * when the last ping was sent, if there was one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member {
  readonly isReading: boolean
  lastReceived: number
  pingedAt: number | undefined
  readonly sendHeartbeat: () => void
  readonly heartbeatLost: () => void
}

/**
 * The heartbeat of any number of connections. `add` gives the place by which `remove` finds a member; removing one twice does
 * nothing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Heartbeat {
  readonly add: (member: Member) => Place
  readonly remove: (place: Place) => void
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
    const members = new Roster<Member>()
    const populated = Latch.makeUnsafe(false)

    // Does what is due for one connection, and returns when to look at it again.
    const check = (member: Member, place: Place, now: number, stalled: number): number => {
      if (!member.isReading) member.lastReceived = now
      // A ping is to be answered as long as nothing came after it.
      if (member.pingedAt !== undefined && member.lastReceived < member.pingedAt) {
        member.pingedAt += stalled
        const deadline = member.pingedAt + timeout
        if (now < deadline || stalled > 0) return deadline
        members.remove(place)
        member.heartbeatLost()
        return Infinity
      }
      const deadline = member.lastReceived + interval
      if (now < deadline) return deadline
      member.pingedAt = now
      member.sendHeartbeat()
      return now + timeout
    }

    const checkAll = (expected: number): number => {
      const now = clock.currentTimeMillisUnsafe()
      const late = now - expected
      const stalled = late > granularity ? late : 0
      let next = now + longest
      members.forEach((member, place) => {
        next = Math.min(next, check(member, place, now, stalled))
      })
      return Math.max(next, now + granularity)
    }

    yield* Effect.forkScoped(Effect.gen(function*() {
      while (true) {
        yield* populated.await
        let next = checkAll(clock.currentTimeMillisUnsafe())
        while (members.size > 0) {
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
        const place = members.add(member)
        populated.openUnsafe()
        return place
      },
      remove: (place) => members.remove(place)
    }
  }
)
