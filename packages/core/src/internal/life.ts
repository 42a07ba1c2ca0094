/**
 * The life of a server's connection: opened, handled, closed.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { Connection, Established, Settings } from "../Connection.ts"
import type { Transport } from "../Transport.ts"
import { ConnectionError, SendError } from "../WebSocketError.ts"
import { type ConnectionImpl, open } from "./connection.ts"
import * as Spans from "./spans.ts"

/**
 * Runs a handler in its connection, which is one of `connections` until it is closed.
 *
 * **Details**
 *
 * It has to run uninterruptibly. Only the handler is interrupted: the socket always has an owner, and why a handler failed is
 * logged even if the server stops while the connection closes.
 */
export const live = (
  connections: Set<Connection>,
  transport: Transport,
  settings: Settings,
  established: Established,
  handler: (connection: Connection) => Effect.Effect<unknown, unknown, Scope.Scope>
): Effect.Effect<void> =>
  Effect.flatMap(opened(transport, settings, established), (connection) => {
    if (connection === undefined) return Effect.void
    connections.add(connection)
    // What is made here stays as long as the connection, so it is little.
    const handling = Effect.exit(
      Effect.suspend(() => Effect.interruptible(Effect.scoped(handler(connection))))
    )
    const life = Effect.flatMap(handling, (exit) =>
      Effect.flatMap(connection.release(exit), () => {
        // A closing connection still counts.
        connections.delete(connection)
        return Exit.isSuccess(exit) ? Effect.void : exit
      }))
    return Effect.flatMap(Spans.isTraced, (traced) =>
      Effect.catchCause(traced ? Spans.connection(connection, life) : life, logFailure))
  })

// There is none if whoever wraps the transport has failed to.
const opened = (...args: Parameters<typeof open>): Effect.Effect<ConnectionImpl | undefined> =>
  Effect.catchCause(open(...args), (cause) => Effect.as(logFailure(cause), undefined))

// That a peer went away is its own affair; anything else is a mistake in the handler.
const logFailure = (cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause as Cause.Cause<never>)
  const isEnding = cause.reasons.every((reason) =>
    Cause.isInterruptReason(reason) || (
      Cause.isFailReason(reason) &&
      (reason.error instanceof ConnectionError || reason.error instanceof SendError || Cause.isDone(reason.error))
    )
  )
  return isEnding
    ? Effect.logDebug("WebSocket connection ended in its handler", cause)
    : Effect.logError("WebSocket handler failed", cause)
}
