/**
 * From an upgrade request to a handled connection: the part of a server that is the same on every platform.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Compression from "./Compression.ts"
import * as Connection from "./Connection.ts"
import { CurrentConnectionMetrics } from "./ConnectionMetrics.ts"
import * as HandshakeRequest from "./HandshakeRequest.ts"
import * as Heartbeat from "./Heartbeat.ts"
import * as DebugLog from "./internal/debugLog.ts"
import { live } from "./internal/life.ts"
import { Roster } from "./internal/roster.ts"
import { ServerHandshake } from "./internal/serverHandshake.ts"
import * as Spans from "./internal/spans.ts"
import * as Message from "./Message.ts"
import type { Extension } from "./protocol/ExtensionHeader.ts"
import { makeResolver, type TrustedProxies } from "./protocol/Forwarded.ts"
import * as Handshake from "./protocol/Handshake.ts"
import { isOriginAllowed, type OriginPolicy } from "./protocol/Origin.ts"
import * as PerMessageDeflate from "./protocol/PerMessageDeflate.ts"
import type { Utf8Codec } from "./protocol/Utf8.ts"
import { unixUrl } from "./protocol/WebSocketUrl.ts"
import type { TlsState } from "./TlsState.ts"
import type { Address, Transport } from "./Transport.ts"
import type { Route, WebSocketServer } from "./WebSocketServer.ts"

/**
 * The options of a server on any platform, beside those of its connections.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `origin` | same origin; a missing Origin is allowed | which pages may connect; others are answered 403 |
 * | `trustedProxies` | none | whose `X-Forwarded-*` or `Forwarded` headers tell the client's address and the host |
 * | `headers` | none | headers of every answer to an upgrade request; the hook's own go first |
 * | `handshakeTimeout` | 10 seconds | each of: the TLS handshake, a request's head (after it, 408), the hook (503) |
 * | `maxHeaders` | 128 | headers of a request; more are answered 431 |
 * | `heartbeat` | 20 s and 20 s | when a silent peer is pinged and dropped; `false` turns it off |
 * | `deflate` | `false` | whether, and how, to compress messages if the client offers it (RFC 7692) |
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerOptions extends Connection.ConnectionOptions {
  readonly origin?: OriginPolicy | undefined
  readonly trustedProxies?: TrustedProxies | undefined
  readonly headers?: Handshake.ResponseHeaders | undefined
  readonly handshakeTimeout?: Duration.Input | undefined
  readonly maxHeaders?: number | undefined
  readonly heartbeat?: Heartbeat.Options | false | undefined
  readonly deflate?: boolean | Compression.DeflateOptions | undefined
}

/**
 * A request to upgrade, with the ways to answer it.
 *
 * **Details**
 *
 * Exactly one of `accept` and `reject` is called, once. `accept` sends the 101 and hands the socket over; `reject` sends
 * another response and ends the socket; `abandon` drops the socket, whatever was called before. `onLost` calls back when
 * the peer goes away before its request is answered, and gives the way to take that back.
 *
 * @category models
 * @since 0.1.0
 */
export interface Upgrade {
  readonly method: string
  readonly httpVersion: string
  readonly url: string
  readonly headers: Handshake.Headers
  readonly rawHeaders: ReadonlyArray<string>
  readonly peerAddress: Address | undefined
  readonly localAddress: Address | undefined
  readonly tls: TlsState | undefined
  readonly accept: (headers: Handshake.ResponseHeaders) => Transport
  readonly reject: (response: Response) => void
  readonly abandon: () => void
  readonly onLost: (lost: () => void) => () => void
}

/**
 * An HTTP response to a request that is not upgraded.
 *
 * @category models
 * @since 0.1.0
 */
export interface Response {
  readonly status: number
  readonly headers: Handshake.ResponseHeaders
  readonly body: string
}

/**
 * The service of a server, and what its platform calls for each upgrade request.
 *
 * **Details**
 *
 * `routeOf` is the route that serves a path now, for a platform that leaves the requests of other paths to others.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerRuntime {
  readonly server: WebSocketServer["Service"]
  readonly upgrade: (upgrade: Upgrade) => void
  readonly routeOf: (path: string) => Route | undefined
}

/**
 * What a platform calls for each upgrade request if it finds the routes itself, and the connections that came of it.
 *
 * **Details**
 *
 * `find` is asked for the path of a request that is well-formed and of an acceptable origin. A response rejects it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Upgrades {
  readonly connections: () => ReadonlyArray<Connection.Connection>
  readonly upgrade: (upgrade: Upgrade, find: (path: string) => Route | Response) => void
}

/**
 * What a platform brings to answer upgrade requests. Without
 * `compression`, none is negotiated.
 *
 * @category models
 * @since 0.1.0
 */
export interface Platform {
  readonly sha1: Handshake.Sha1
  readonly utf8?: Utf8Codec | undefined
  readonly compression?: Compression.Compression | undefined
}

/**
 * Answers plain HTTP on a WebSocket port (RFC 7231, section 6.5.15).
 *
 * @category responses
 * @since 0.1.0
 */
export const upgradeRequired: Response = {
  status: 426,
  headers: { upgrade: "websocket", connection: "Upgrade", "content-type": "text/plain" },
  body: "This is a WebSocket server."
}

const response = (status: number, body: string, headers: Handshake.ResponseHeaders = {}): Response => ({
  status,
  headers: { "content-type": "text/plain", ...Handshake.refusalHeaders(headers) },
  body
})

/**
 * Answers a request that comes before there are routes, or when there are none any more.
 *
 * @category responses
 * @since 0.1.0
 */
export const notServing: Response = response(503, "not serving")

/**
 * Answers a request for what nobody serves.
 *
 * @category responses
 * @since 0.1.0
 */
export const notFound: Response = response(404, "not found")

const defaultOrigin: OriginPolicy = { allow: "same-origin" }

const noExtensions: ReadonlyArray<Extension> = []

const timedOut = new HandshakeRequest.HandshakeRejected({ status: 503, body: "handshake timed out" })

/**
 * Makes what answers upgrade requests, wherever their routes come from.
 *
 * **When to use**
 *
 * To mount WebSockets on a router that is not ours. A server with routes of its own is made by {@link make}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeUpgrades: (
  options: ServerOptions & Platform
) => Effect.Effect<Upgrades, never, Scope.Scope> = Effect.fnUntraced(function*(options) {
  const heartbeat = options.heartbeat === false
    ? undefined
    : yield* Heartbeat.make(options.heartbeat)
  const handshakeTimeout = Duration.fromInputUnsafe(options.handshakeTimeout ?? "10 seconds")
  const metrics = (yield* CurrentConnectionMetrics)?.("server")
  const compression = options.compression && (metrics?.compression(options.compression) ?? options.compression)
  const compressing = Compression.settle(compression, options.deflate)
  const settings = yield* Connection.settings({ ...options, heartbeat, metrics })
  const connections = new Roster<Connection.Connection>()
  const resolve = makeResolver(options.trustedProxies)
  if (typeof resolve !== "function") {
    return yield* Effect.die(new Error(`trustedProxies: ${resolve.address} is neither an IP address nor a network`))
  }
  const ownHeaders = Handshake.refusalHeaders(options.headers ?? {})
  yield* checkHeaders(ownHeaders)
  const answering = { sha1: options.sha1, headers: ownHeaders }
  const log = options.debug === true ? DebugLog.make(yield* Effect.context<never>(), { role: "server" }) : undefined

  const unanswered = ({ peerAddress, url }: Upgrade, outcome: string, status?: number, detail?: string): void => {
    metrics?.handshake(outcome)
    log?.("WebSocket handshake failed", {
      peer: DebugLog.formatAddress(peerAddress),
      path: DebugLog.pathOf(url),
      outcome,
      status,
      detail
    })
  }
  const reject = (upgrade: Upgrade, outcome: string, response: Response): void => {
    unanswered(upgrade, outcome, response.status, response.body)
    upgrade.reject({ ...response, headers: { ...ownHeaders, ...response.headers } })
  }
  const abandon = (upgrade: Upgrade): void => {
    unanswered(upgrade, "lost")
    upgrade.abandon()
  }

  const upgrade: Upgrades["upgrade"] = (upgrade, find) => {
    const checked = Handshake.checkRequest(upgrade, { maxHeaders: options.maxHeaders ?? 128 })
    if (checked._tag === "HandshakeFailure") {
      return reject(upgrade, "malformed", response(checked.status, checked.detail, checked.headers))
    }
    const { headers, localAddress, peerAddress, tls, url } = upgrade
    const target = HandshakeRequest.parseTarget(url)
    if (target === undefined) return reject(upgrade, "malformed", response(400, "malformed request target"))
    const origination = resolve({
      address: peerAddress?._tag === "Tcp" ? peerAddress.host : undefined,
      // The other end of a TCP socket that was reset is unknown, too.
      isUnix: peerAddress?._tag !== "Tcp" && localAddress?._tag !== "Tcp",
      secure: tls !== undefined,
      // RFC 7230, section 5.4: if the target names a host itself, it is that.
      host: url.startsWith("/") ? headers["host"]!.trim() : target.host,
      headers
    })
    if (origination === "Malformed") return reject(upgrade, "malformed", response(400, "malformed forwarding headers"))
    const request = HandshakeRequest.make({ ...upgrade, target, subprotocols: checked.subprotocols, origination })
    // RFC 6455, section 4.2.2: an origin that is not acceptable is answered 403.
    if (!isOriginAllowed(headers["origin"], request.host, options.origin ?? defaultOrigin)) {
      return reject(upgrade, "origin", response(403, "origin not allowed"))
    }
    const route = find(request.path)
    if ("status" in route) return reject(upgrade, "unserved", route)
    route.run(attempt(upgrade, route, request, checked))
  }

  // From a request to its answer, and on to the end of its connection. Whatever goes wrong, the socket is answered or
  // dropped. The life of the connection takes the place of all that led to it, as it outlives that by far.
  const attempt = (
    upgrade: Upgrade,
    route: Route,
    request: HandshakeRequest.HandshakeRequest,
    checked: Handshake.AcceptedRequest
  ): Effect.Effect<void> =>
    Effect.uninterruptibleMask((restore) =>
      restore(decide(upgrade, route, request)).pipe(
        Effect.map((accepted) => accept(upgrade, route, request, checked, accepted)),
        Spans.handshake(request),
        Effect.matchCauseEffect({
          onSuccess: (life) => life,
          onFailure: (cause) => Effect.onError(refuse(upgrade, cause), () => Effect.sync(() => abandon(upgrade)))
        })
      )
    )

  const decide = Effect.fnUntraced(
    function*(upgrade: Upgrade, route: Route, request: HandshakeRequest.HandshakeRequest) {
      const accepted = yield* answer(upgrade, route.handshake(request)).pipe(
        Effect.tapError(({ headers, status }) =>
          status >= 200 && status <= 599
            ? checkHeaders(headers)
            : Effect.die(new Error(`status ${status} does not reject a request`))
        )
      )
      yield* checkHeaders(accepted.headers)
      const subprotocol = accepted.subprotocol ??
        Handshake.selectSubprotocol(route.subprotocols, request.subprotocols)
      if (subprotocol !== undefined && !request.subprotocols.includes(subprotocol)) {
        return yield* Effect.die(new Error(`subprotocol ${subprotocol} was not offered (RFC 6455, section 4.2.2)`))
      }
      return { ...accepted, subprotocol }
    }
  )

  // What the hook says, as long as the peer is there to hear it. One that says it at once needs no timer.
  const answer = (upgrade: Upgrade, hook: ReturnType<Route["handshake"]>): ReturnType<Route["handshake"]> =>
    Exit.isExit(hook) ? hook : Effect.withFiber((fiber) => {
      const forget = upgrade.onLost(() => fiber.interruptUnsafe())
      return hook.pipe(
        Effect.timeoutOrElse({ duration: handshakeTimeout, orElse: () => Effect.fail(timedOut) }),
        Effect.ensuring(Effect.sync(forget))
      )
    })

  const refuse = (upgrade: Upgrade, cause: Cause.Cause<HandshakeRequest.HandshakeRejected>): Effect.Effect<void> => {
    const rejected = Cause.findErrorOption(cause)
    if (rejected._tag === "Some") {
      const { body, headers, status } = rejected.value
      const outcome = rejected.value === timedOut ? "timeout" : "rejected"
      return Effect.sync(() => reject(upgrade, outcome, response(status, body ?? "", headers)))
    }
    if (Cause.hasInterruptsOnly(cause)) return Effect.sync(() => abandon(upgrade))
    return Effect.andThen(
      Effect.logError("WebSocket handshake hook failed", cause),
      Effect.sync(() => reject(upgrade, "failed", response(500, "handshake failed")))
    )
  }

  const accept = (
    upgrade: Upgrade,
    route: Route,
    request: HandshakeRequest.HandshakeRequest,
    checked: Handshake.AcceptedRequest,
    accepted: HandshakeRequest.Accepted<unknown>
  ): Effect.Effect<void> => {
    const { data, debug = settings.debug, subprotocol } = accepted
    const deflate = compressing && PerMessageDeflate.accept(checked.extensions, compressing.wanted)
    const extensions = deflate === undefined ? noExtensions : [deflate.response]
    const handshake = new ServerHandshake(answering, {
      request,
      key: checked.key,
      subprotocol,
      extensions,
      headers: accepted.headers
    })
    const transport = upgrade.accept(handshake.responseHeaders)
    metrics?.handshake("accepted")
    return live(
      connections,
      transport,
      debug === settings.debug ? settings : { ...settings, debug },
      { handshake, deflate: compressing && deflate && { settings: compressing, agreed: deflate.agreed } },
      route.handler,
      data
    )
  }

  return { connections: () => connections.toArray(), upgrade }
})

/**
 * Makes the runtime of a server that listens at `address`; `secure` if it speaks TLS there.
 *
 * **When to use**
 *
 * To write a server for a platform: pass it every upgrade request that arrives.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (
  options: ServerOptions & Platform & { readonly address: Address; readonly secure?: boolean | undefined }
) => Effect.Effect<ServerRuntime, never, Scope.Scope> = Effect.fnUntraced(function*(options) {
  const { connections, upgrade } = yield* makeUpgrades(options)
  const routes = new Set<Route>()

  const routeOf = (path: string): Route | undefined => {
    let fallback: Route | undefined
    for (const route of routes) {
      if (route.path === path) return route
      if (route.path === undefined) fallback = route
    }
    return fallback
  }

  const find = (path: string): Route | Response => routes.size === 0 ? notServing : routeOf(path) ?? notFound

  return {
    server: {
      address: options.address,
      url: urlOf(options.address, options.secure === true),
      connections: Effect.suspend(() =>
        Effect.filter(connections(), (connection) => Effect.map(connection.state, (state) => state !== "Closed"))
      ),
      broadcast: (message, { except, overflow } = {}) =>
        Effect.suspend(() => {
          const prepared = Message.prepare(message)
          const waiting: Array<Connection.Connection> = []
          for (const connection of connections()) {
            if (connection !== except && connection.sendUnsafe(prepared, overflow) === "Full") waiting.push(connection)
          }
          const send = (connection: Connection.Connection) => Effect.ignore(connection.send(prepared))
          return Effect.forEach(waiting, send, { concurrency: "unbounded", discard: true })
        }),
      route: (route) =>
        Effect.asVoid(Effect.acquireRelease(
          Effect.suspend(() => {
            for (const other of routes) {
              if (other.path === route.path) {
                return Effect.die(new Error(`${route.path ?? "every path"} is served already`))
              }
            }
            return Effect.sync(() => routes.add(route))
          }),
          () => Effect.sync(() => routes.delete(route))
        ))
    },
    upgrade: (request) => upgrade(request, find),
    routeOf
  }
})

// Found before anything is sent, a mistake in a hook's answer is like any other mistake in it.
const checkHeaders = (headers: Handshake.ResponseHeaders = {}): Effect.Effect<void> => {
  const invalid = Handshake.invalidHeader(headers)
  return invalid === undefined
    ? Effect.void
    : Effect.die(new Error(`header ${JSON.stringify(invalid)} is not HTTP (RFC 7230, section 3.2)`))
}

const urlOf = (address: Address, secure: boolean): string => {
  if (address._tag === "Unix") return unixUrl(address.path, secure)
  return `${secure ? "wss" : "ws"}://${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`
}
