/**
 * Tests that leave nothing behind.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { TestNetwork } from "./TestNetwork.ts"

/**
 * Something was left: fibers that go on, and how many of their sleeps are not over; links that are not over.
 *
 * @category errors
 * @since 0.1.0
 */
export class LeakError extends Schema.TaggedError<LeakError>("@effect-ws/test-kit/LeakGuard/LeakError")("LeakError", {
  fibers: Schema.Int,
  timers: Schema.Int,
  links: Schema.Int
}) {
  override get message() {
    return `${this.fibers} fibers (${this.timers} timers) and ${this.links} links are left`
  }
}

/**
 * Runs an effect in a scope of its own, and fails if anything is left when that has closed.
 *
 * **Details**
 *
 * Counted are the fibers that it started, directly or not, and that have not ended; of them the timers, which are sleeps on
 * the `Clock`; and the links of the `TestNetwork`, if one is provided from outside. If the effect fails, so does this, with
 * its error.
 *
 * That covers what a connection can leave: its timers are fibers that sleep; `messages`, `controls` and `changes` subscribe
 * for as long as a fiber runs them; and a connection that nobody has closed keeps its link.
 *
 * **Gotchas**
 *
 * A network that is provided inside ends with the scope, and takes its links with it. Not seen are timers that were not
 * made with Effect, such as those of `setTimeout`, and what is kept in a scope that nobody closes and no fiber holds, such
 * as a subscription to a `PubSub` of the application's own.
 *
 * **Example** (A server that keeps no fiber)
 *
 * ```ts
 * import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
 * import { LeakGuard, TestNetwork } from "@effect-ws/test-kit"
 * import { Effect, Layer, Stream } from "effect"
 *
 * const Echo = WebSocketServer.serve((connection) =>
 *   Stream.runForEach(connection.messages, (message) => connection.send(message))
 * ).pipe(Layer.provide(TestNetwork.layerServer()))
 *
 * const test = WebSocketClient.connect("ws://localhost").pipe(
 *   Effect.andThen((connection) => connection.send("hello")),
 *   Effect.provide(Layer.merge(Echo, TestNetwork.layerClient)),
 *   LeakGuard.guard,
 *   Effect.provide(TestNetwork.layerNetwork())
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const guard = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | LeakError, Exclude<R, Scope.Scope>> =>
  Effect.gen(function*() {
    let fibers = 0
    const countFibers: Metric.FiberRuntimeMetricsService = {
      recordFiberStart: () => {
        fibers++
      },
      recordFiberEnd: () => {
        fibers--
      }
    }
    const linksNow = yield* Effect.map(
      Effect.serviceOption(TestNetwork),
      (network) => network._tag === "None" ? Effect.succeed([]) : network.value.links
    )
    let timers = 0
    const clock = yield* Clock.Clock
    // With all that a `TestClock` has beside.
    const countTimers: Clock.Clock = Object.assign(Object.create(clock), {
      sleep: (duration: Duration.Duration) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            timers++
          }),
          () => clock.sleep(duration),
          () =>
            Effect.sync(() => {
              timers--
            })
        )
    })
    const before = yield* linksNow
    const result = yield* Effect.scoped(effect).pipe(
      Effect.provideService(Metric.FiberRuntimeMetrics, countFibers),
      Effect.provideService(Clock.Clock, countTimers)
    )
    // Fibers that were interrupted without being waited for, and links that close, come to their end first.
    yield* Effect.repeat(Effect.yieldNow, { times: 10 })
    const links = (yield* linksNow).filter((link) => !before.includes(link)).length
    if (fibers > 0 || links > 0) return yield* new LeakError({ fibers, timers, links })
    return result
  })
