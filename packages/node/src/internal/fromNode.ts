/**
 * What Node calls back with, as effects.
 *
 * @since 0.1.0
 */
import { type ConnectError, InvalidRequest } from "@effect-ws/core/WebSocketError"
import * as Effect from "effect/Effect"

/** `Effect.callback`, where Node may throw at arguments that it does not take, such as header values. */
export const fromNode = <A>(
  register: (resume: (effect: Effect.Effect<A, ConnectError["reason"]>) => void) => Effect.Effect<void> | void
): Effect.Effect<A, ConnectError["reason"]> =>
  Effect.callback((resume) => {
    try {
      return register(resume)
    } catch (cause) {
      return resume(Effect.fail(new InvalidRequest({ detail: String(cause) })))
    }
  })
