/**
 * Time that passes by itself.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"

/**
 * Runs an effect while the time of its `TestClock` passes, until it ends.
 *
 * **When to use**
 *
 * Where a test waits for what takes time and does not care how much: over links with latency, for reconnects and timeouts,
 * and at the end of a test, when open connections are closed over a slow link. A test about time itself calls
 * `TestClock.adjust`.
 *
 * **Details**
 *
 * The time goes on in steps of 10 milliseconds, each as soon as what the one before woke up has come to rest; what is due
 * within a step happens in its order. A minute of virtual time takes about 50 milliseconds.
 *
 * **Example** (An echo over a slow network)
 *
 * ```ts
 * import { WebSocketClient } from "@effect-ws/core"
 * import { TestNetwork, VirtualTime } from "@effect-ws/test-kit"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const connection = yield* WebSocketClient.connect("ws://localhost")
 *   return yield* connection.ping
 * }).pipe(
 *   Effect.scoped,
 *   Effect.provide(TestNetwork.layerWith({ link: { latency: "50 millis" } })),
 *   VirtualTime.passing
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const passing = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.raceFirst(effect, Effect.forever(TestClock.adjust("10 millis")))
