/**
 * Tests that leave nothing behind.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { TestNetwork } from "./TestNetwork.ts"

/**
 * Something was left: fibers that go on, links that are not over.
 *
 * @category errors
 * @since 0.1.0
 */
export class LeakError extends Schema.TaggedError<LeakError>("@effect-ws/test-kit/LeakGuard/LeakError")("LeakError", {
  fibers: Schema.Int,
  links: Schema.Int
}) {
  override get message() {
    return `${this.fibers} fibers and ${this.links} links are left`
  }
}

/**
 * Runs an effect in a scope of its own, and fails if anything is left when that has closed.
 *
 * **Details**
 *
 * Counted are the fibers that it started, directly or not, and that have not ended (whoever sleeps or subscribes to
 * something is a fiber too), and the links of the `TestNetwork`, if one is provided from outside. If the effect fails, so
 * does this, with its error.
 *
 * **Gotchas**
 *
 * A network that is provided inside ends with the scope, and takes its links with it.
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
    const countLinks = yield* Effect.map(
      Effect.serviceOption(TestNetwork),
      (network) => network._tag === "None" ? Effect.succeed(0) : Effect.map(network.value.links, ({ length }) => length)
    )
    const before = yield* countLinks
    const result = yield* Effect.scoped(effect).pipe(
      Effect.provideService(Metric.FiberRuntimeMetrics, countFibers)
    )
    // Fibers that were interrupted without being waited for, and links that close, come to their end first.
    yield* Effect.repeat(Effect.yieldNow, { times: 10 })
    const links = (yield* countLinks) - before
    if (fibers > 0 || links > 0) return yield* new LeakError({ fibers, links })
    return result
  })
