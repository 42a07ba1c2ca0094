/**
 * Deadlines that are all as far away when they are set, with one timer for all of them.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

/** A deadline, between the one before it and the one after it. */
export class Deadline {
  readonly onDeadline: (() => void) | undefined
  readonly at: number
  previous: Deadline = this
  next: Deadline = this

  constructor(onDeadline: (() => void) | undefined, at: number) {
    this.onDeadline = onDeadline
    this.at = at
  }
}

/**
 * What is to be done unless it is called off in time. A timer for each would cost more than all else of a closing.
 */
export class Deadlines {
  private readonly millis: number
  private readonly clock: Clock.Clock
  private readonly runFork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  // A ring, in the order in which they are due, that is closed by one that never is. Not a `Map`, for the reason of `Roster`.
  private readonly ring = new Deadline(undefined, Infinity)
  private isWatching = false
  private timer: Fiber.Fiber<void> | undefined

  constructor(
    after: Duration.Duration,
    clock: Clock.Clock,
    runFork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.millis = Duration.toMillis(after)
    this.clock = clock
    this.runFork = runFork
  }

  set(onDeadline: () => void): Deadline {
    const deadline = new Deadline(onDeadline, this.now + this.millis)
    const { ring } = this
    deadline.previous = ring.previous
    deadline.next = ring
    ring.previous.next = deadline
    ring.previous = deadline
    if (!this.isWatching) {
      // It may be over at once.
      this.isWatching = true
      this.timer = this.runFork(this.watch(this.millis))
    }
    return deadline
  }

  /** Nothing is left behind that would keep the process alive. */
  clear(deadline: Deadline): void {
    this.remove(deadline)
    if (this.ring.next !== this.ring) return
    this.isWatching = false
    this.timer?.interruptUnsafe()
  }

  // Not the time of day, which may be set back.
  private get now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  private watch(millis: number): Effect.Effect<void> {
    return Effect.flatMap(Effect.sleep(millis), () => {
      const { now, ring } = this
      for (let first = ring.next; first !== ring; first = ring.next) {
        // Less than a microsecond is a rounding error, which no sleep would end.
        if (first.at - now > 0.001) return this.watch(first.at - now)
        this.remove(first)
        // In a fiber of its own: one that fails is no affair of the others.
        this.runFork(Effect.sync(() => first.onDeadline?.()))
      }
      this.isWatching = false
      return Effect.void
    })
  }

  private remove(deadline: Deadline): void {
    deadline.previous.next = deadline.next
    deadline.next.previous = deadline.previous
    deadline.previous = deadline.next = deadline
  }
}
