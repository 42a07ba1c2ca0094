/**
 * Deadlines that are all as far away when they are set, with one timer for all of them.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

/** What is to be done unless it is called off in time. A timer for each would cost more than all else of a closing. */
export class Deadlines {
  private readonly millis: number
  private readonly clock: Clock.Clock
  private readonly runFork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  // In the order in which they were set, which is that in which they are due.
  private readonly pending = new Map<{ readonly onDeadline: () => void }, number>()
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

  set(who: { readonly onDeadline: () => void }): void {
    this.pending.set(who, this.now + this.millis)
    this.timer ??= this.runFork(this.watch(this.millis))
  }

  // Nothing is left behind that would keep the process alive.
  clear(who: { readonly onDeadline: () => void }): void {
    if (!this.pending.delete(who) || this.pending.size > 0) return
    this.timer?.interruptUnsafe()
    this.timer = undefined
  }

  // Not the time of day, which may be set back.
  private get now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  private watch(millis: number): Effect.Effect<void> {
    return Effect.flatMap(Effect.sleep(millis), () => {
      const { now } = this
      for (const [who, deadline] of this.pending) {
        if (deadline > now) return this.watch(deadline - now)
        this.pending.delete(who)
        // In a fiber of its own: one that fails is no affair of the others.
        this.runFork(Effect.sync(() => who.onDeadline()))
      }
      this.timer = undefined
      return Effect.void
    })
  }
}
