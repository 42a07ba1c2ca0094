/**
 * The life of a server's connection: opened, handled, closed.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Connection, Established, Settings } from "../Connection.ts"
import type { Transport } from "../Transport.ts"
import { ConnectionError, SendError } from "../WebSocketError.ts"
import { type ConnectionImpl, open } from "./connection.ts"
import type { Roster } from "./roster.ts"
import * as Spans from "./spans.ts"

/**
 * Runs a handler in its connection, which is one of `connections` until it is closed.
 *
 * **Details**
 *
 * It has to run uninterruptibly. Only the handler is interrupted: the socket always has an owner, and why a handler failed is
 * logged even if the server stops while the connection closes.
 */
export const live = <Data>(
  connections: Roster<Connection>,
  transport: Transport,
  settings: Settings,
  established: Established,
  handler: Handler<Data>,
  data: Data
): Effect.Effect<void> =>
  Effect.flatMap(opened(transport, settings, established), (connection) => {
    if (connection === undefined) return Effect.void
    const life = handled(connections, connection, handler, data)
    return Effect.flatMap(Spans.isTraced, (traced) =>
      Effect.catchCause(traced ? Spans.connection(connection, life) : life, logFailure))
  })

type Handler<Data> = (connection: Connection, data: Data) => Effect.Effect<unknown, unknown, Scope.Scope>

// What is made here stays as long as the connection, so it is little. Above all, nothing holds what the handler returned.
const handled = <Data>(
  connections: Roster<Connection>,
  connection: ConnectionImpl,
  handler: Handler<Data>,
  data: Data
): Effect.Effect<unknown, unknown> => {
  const place = connections.add(connection)
  const scope = Scope.makeUnsafe()
  const handling = Effect.withFiber<unknown, unknown>((fiber) => {
    // `Effect.scoped` would restore the context, but nothing that needs it comes after this.
    fiber.setContext(Context.add(fiber.context, Scope.Scope, scope))
    return Effect.interruptible(handler(connection, data) as Effect.Effect<unknown, unknown>)
  })
  return Effect.onExit(handling, (exit) =>
    Effect.onExit(Scope.close(scope, exit), (closed) =>
      // A closing connection still counts.
      Effect.map(connection.release(Exit.asVoidAll([exit, closed])), () => connections.remove(place))))
}

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
