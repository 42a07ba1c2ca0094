/**
 * The spans of handshakes and connections. Where no tracer shows them to anybody, none are made.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpHeaders from "effect/http/Headers"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { type CloseEvent, isNormal } from "../CloseEvent.ts"
import type { Connection } from "../Connection.ts"
import type { HandshakeRejected, HandshakeRequest } from "../HandshakeRequest.ts"
import type { Headers } from "../protocol/Handshake.ts"
import type { WebSocketUrl } from "../protocol/WebSocketUrl.ts"
import { pathOf } from "./debugLog.ts"

/** Tells whether anybody sees spans: the native tracer keeps them to itself. */
export const isTraced: Effect.Effect<boolean> = Effect.map(Tracer.Tracer, (tracer) => tracer !== Tracer.nativeTracer)

const ifTraced = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  traced: () => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => Effect.flatMap(isTraced, (isTraced) => isTraced ? traced() : effect)

/**
 * Puts what decides on a request, and gives the life of its connection, into a span; the life becomes its child. The parent
 * is that of the request's `traceparent`, if there is one.
 */
export const handshake = (request: HandshakeRequest) =>
(
  deciding: Effect.Effect<Effect.Effect<void>, HandshakeRejected>
): Effect.Effect<Effect.Effect<void>, HandshakeRejected> =>
  ifTraced(deciding, () =>
    Effect.flatMap(parentOf(request.headers), (parent) => {
      const address = Option.getOrUndefined(request.peerAddress)
      const attributes = {
        "http.request.method": request.method,
        "url.path": request.path,
        ...(address?._tag === "Tcp" && { "network.peer.address": address.host, "network.peer.port": address.port }),
        ...(request.clientAddress._tag === "Some" && { "client.address": request.clientAddress.value }),
        ...("user-agent" in request.headers && { "user_agent.original": request.headers["user-agent"] })
      }
      return Effect.useSpan("websocket.handshake", { kind: "server", parent, attributes }, (span) =>
        deciding.pipe(
          Effect.withParentSpan(span, { captureStackTrace: false }),
          Effect.map((life) => {
            span.attribute("http.response.status_code", 101)
            return Exit.succeed(Effect.withParentSpan(life, span, { captureStackTrace: false }))
          }),
          Effect.tapDefect(() => Effect.sync(() => span.attribute("http.response.status_code", 500))),
          // That a request is rejected is not an error of the server.
          Effect.catch((rejected) => {
            span.attribute("http.response.status_code", rejected.status)
            return rejected.status < 500 ? Effect.succeed(Exit.fail(rejected)) : Effect.fail(rejected)
          })
        )).pipe(Effect.flatten)
    }))

/** Puts the life of a server's connection into a span, which tells at its end how that ended. */
export const connection = <A, E, R>(
  connection: Connection,
  life: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => {
  const options = { kind: "server", attributes: { "url.path": pathOf(connection.request.url) } } as const
  return Effect.useSpan("websocket.connection", options, (span) =>
    life.pipe(
      Effect.withParentSpan(span, { captureStackTrace: false }),
      Effect.onExit(() => Effect.map(connection.closed, (event) => annotate(span, event)))
    ))
}

/**
 * Puts connecting as a client into a span, and gives it the headers that lead the server's spans there. The life of the
 * connection becomes a child.
 */
export const connect = <E>(
  url: WebSocketUrl,
  connecting: (headers: Headers) => Effect.Effect<Connection, E, Scope.Scope>
): Effect.Effect<Connection, E, Scope.Scope> =>
  ifTraced(connecting({}), () => {
    const attributes = { "server.address": url.host, "server.port": url.port, "url.path": pathOf(url.target) }
    return Effect.useSpan("websocket.connect", { kind: "client", attributes }, (span) =>
      connecting(HttpTraceContext.toHeaders(span)).pipe(
        Effect.withParentSpan(span, { captureStackTrace: false }),
        Effect.tap((connection) => {
          const life = Effect.makeSpan("websocket.connection", { kind: "client", parent: span, attributes })
          // It ends with the connection, for whose end its scope waits.
          return Effect.flatMap(life, (life) =>
            Effect.forkDetach(endWith(life, connection)))
        })
      ))
  })

const endWith = Effect.fnUntraced(function*(span: Tracer.Span, connection: Connection) {
  const event = yield* connection.closed
  annotate(span, event)
  const clock = yield* Clock.Clock
  const exit = isNormal(event) ? Exit.void : Exit.die(new Error(`closed with ${event.code}`))
  span.end(clock.currentTimeNanosUnsafe(), exit)
})

const annotate = (span: Tracer.Span, event: CloseEvent): void => {
  span.attribute("websocket.close.code", event.code)
  span.attribute("websocket.close.clean", event.wasClean)
  span.attribute("websocket.close.initiator", event.initiator)
}

// Where an HTTP server has made a span of the same trace already, ours belongs into that.
const parentOf = (headers: Headers): Effect.Effect<Tracer.AnySpan | undefined> =>
  Effect.map(Effect.option(Effect.currentParentSpan), (current) => {
    const incoming = HttpTraceContext.fromHeaders(HttpHeaders.fromRecordUnsafe({ ...headers }))
    if (incoming._tag === "None") return undefined
    return current._tag === "Some" && current.value.traceId === incoming.value.traceId ? undefined : incoming.value
  })
