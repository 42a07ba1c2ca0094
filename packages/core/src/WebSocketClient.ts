/**
 * Connecting to WebSocket servers.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Compression from "./Compression.ts"
import * as Connection from "./Connection.ts"
import { type ConnectionMetrics, CurrentConnectionMetrics } from "./ConnectionMetrics.ts"
import * as Heartbeat from "./Heartbeat.ts"
import { ask } from "./internal/ask.ts"
import { pathOf } from "./internal/debugLog.ts"
import * as Spans from "./internal/spans.ts"
import { basicAuthorization, credentialsOf, withoutCredentials } from "./protocol/BasicAuth.ts"
import * as Handshake from "./protocol/Handshake.ts"
import * as Mask from "./protocol/Mask.ts"
import * as PerMessageDeflate from "./protocol/PerMessageDeflate.ts"
import type { Utf8Codec } from "./protocol/Utf8.ts"
import { parseUrl, type WebSocketUrl } from "./protocol/WebSocketUrl.ts"
import type { Transport } from "./Transport.ts"
import { BadUpgrade, ConnectError, ConnectTimeout, InvalidRequest, InvalidUrl } from "./WebSocketError.ts"

/**
 * Makes connections as a client.
 *
 * @category services
 * @since 0.1.0
 */
export class WebSocketClient extends Context.Service<WebSocketClient, {
  readonly connect: (
    url: string | URL,
    options?: ConnectOptions
  ) => Effect.Effect<Connection.Connection, ConnectError, Scope.Scope>
}>()("@effect-ws/core/WebSocketClient/WebSocketClient") {}

/**
 * The options of one connection, beside its limits and policies.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `headers` | none | further headers of the opening request; those of the handshake itself are not replaced |
 * | `subprotocols` | none | what to offer, best first; a server that chooses none is refused |
 * | `connectTimeout` | 10 seconds | name lookup, connecting, proxies, TLS, redirects and the handshake together |
 * | `maxRedirects` | 0 | how many redirects are followed (RFC 9110, section 15.4) |
 * | `basicAuth` | `false` | whether the user name and password in the URL are sent (RFC 7617) |
 * | `heartbeat` | 20 s and 20 s | when a silent server is pinged and dropped; `false` turns it off |
 * | `deflate` | `false` | whether, and how, to offer compression of messages (RFC 7692) |
 *
 * **Gotchas**
 *
 * A redirect to another origin (scheme, host and port) is followed without `headers` and credentials, and those behind it
 * too. One from `wss:` to `ws:` is not followed. Subprotocols, and a client certificate, are offered wherever it leads:
 * where they hold a secret, do not follow redirects.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectOptions extends Connection.ConnectionOptions {
  readonly headers?: Handshake.Headers | undefined
  readonly subprotocols?: ReadonlyArray<string> | undefined
  readonly connectTimeout?: Duration.Input | undefined
  readonly maxRedirects?: number | undefined
  readonly basicAuth?: boolean | undefined
  readonly heartbeat?: Heartbeat.Options | false | undefined
  readonly deflate?: boolean | Compression.DeflateOptions | undefined
}

/**
 * Connects to a `ws:` or `wss:` URL. The connection lives in the scope, and is closed with it.
 *
 * **Details**
 *
 * `ws+unix:///run/app.sock:/path` asks for `/path` at a Unix socket, `wss+unix:` over TLS.
 *
 * Interrupting the effect, at any stage, leaves no socket behind.
 *
 * **Example** (Asking one question)
 *
 * ```ts
 * import { WebSocketClient } from "@effect-ws/core"
 * import { Effect } from "effect"
 *
 * const ask = Effect.fnUntraced(function*(question: string) {
 *   const connection = yield* WebSocketClient.connect("ws://127.0.0.1:8080")
 *   yield* connection.send(question)
 *   return yield* connection.receive
 * }, Effect.scoped)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = (
  url: string | URL,
  options?: ConnectOptions
): Effect.Effect<Connection.Connection, ConnectError, WebSocketClient | Scope.Scope> =>
  WebSocketClient.use((client) => client.connect(url, options))

/**
 * An opening request, ready to be sent.
 *
 * @category models
 * @since 0.1.0
 */
export interface OpeningRequest {
  readonly url: WebSocketUrl
  readonly headers: Handshake.Headers
}

/**
 * A response with status 101, and the socket it came over.
 *
 * @category models
 * @since 0.1.0
 */
export interface Opened {
  readonly headers: Handshake.Headers
  readonly transport: Transport
}

/**
 * What a platform brings to make a client.
 *
 * **Details**
 *
 * - `open` sends the request over a new socket and waits for a 101; any other response, or a failure, is a reason. When it
 *   is interrupted or fails, it leaves no socket.
 * - `randomFill` fills an array with cryptographically strong random bytes (RFC 6455, sections 4.1 and 5.3).
 * - Without `compression`, none is offered.
 *
 * @category models
 * @since 0.1.0
 */
export interface Platform {
  readonly open: (request: OpeningRequest) => Effect.Effect<Opened, ConnectError["reason"]>
  readonly randomFill: (bytes: Uint8Array) => void
  readonly sha1: Handshake.Sha1
  readonly utf8?: Utf8Codec | undefined
  readonly compression?: Compression.Compression | undefined
}

/**
 * Makes the client of a platform.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (platform: Platform) => Effect.Effect<WebSocketClient["Service"], never, Scope.Scope> = Effect
  .fnUntraced(function*(platform) {
    const shared = yield* Heartbeat.make()
    const maskKey = Mask.keysFrom(platform.randomFill)
    const counting = (yield* CurrentConnectionMetrics)?.("client")
    const compression = platform.compression && (counting?.compression(platform.compression) ?? platform.compression)

    const heartbeatOf = (options: ConnectOptions["heartbeat"]) => {
      if (options === false) return Effect.undefined
      return options === undefined ? Effect.succeed(shared) : Heartbeat.make(options)
    }

    const establish = Effect.fnUntraced(function*({ input, metrics, options, restore, traceHeaders, url }: Attempt) {
      const subprotocols = options.subprotocols ?? []
      const invalid = Handshake.checkSubprotocols(subprotocols)
      if (invalid !== undefined) return yield* new InvalidRequest({ detail: invalid.detail })
      const authorization = options.basicAuth === true && url.hasCredentials ? authorizationOf(input) : {}
      if (authorization === undefined) {
        const detail = "the user name or password cannot be sent"
        return yield* new InvalidUrl({ url: withoutCredentials(input), detail })
      }
      const compressing = Compression.settle(compression, options.deflate)
      const extensions = compressing === undefined ? [] : [PerMessageDeflate.offer(compressing.wanted)]
      const headers = { ...traceHeaders, ...authorization, ...options.headers }
      const { maxRedirects = 0 } = options
      const { opened, ...answered } = yield* restore(
        ask(platform, { url, subprotocols, extensions, headers, maxRedirects }).pipe(
          Effect.timeoutOrElse({
            duration: options.connectTimeout ?? "10 seconds",
            orElse: () => Effect.fail(new ConnectTimeout({}))
          })
        )
      )
      const settle = Effect.gen(function*() {
        const response = { status: 101, headers: opened.headers }
        const checked = checkResponse(response, {
          key: answered.key,
          sha1: platform.sha1,
          subprotocols,
          extensions: extensions.map(({ name }) => name)
        })
        if (checked._tag === "HandshakeFailure") {
          const { detail, section } = checked
          return yield* new BadUpgrade({ detail, section })
        }
        const agreed = compressing && PerMessageDeflate.agree(checked.extensions, compressing.wanted)
        if (agreed !== undefined && "_tag" in agreed) {
          return yield* new BadUpgrade({ detail: agreed.detail, section: "9.1" })
        }
        const settings = yield* Connection.settings({
          ...options,
          maskKey,
          metrics,
          utf8: platform.utf8,
          heartbeat: yield* heartbeatOf(options.heartbeat)
        })
        return yield* Connection.make(opened.transport, settings, {
          deflate: compressing && agreed && { settings: compressing, agreed },
          handshake: {
            subprotocol: checked.subprotocol,
            extensions: checked.extensions,
            request: { url: answered.url.target, headers: answered.headers },
            response
          }
        })
      })
      return yield* Effect.onError(settle, () => Effect.sync(() => opened.transport.destroy()))
    })

    return yield* makeWith(establish)
  })

const authorizationOf = (url: string): Handshake.Headers | undefined => {
  const credentials = credentialsOf(new URL(url))
  const authorization = credentials && basicAuthorization(credentials)
  return authorization === undefined ? undefined : { authorization }
}

/**
 * One call of `connect`, whose URL is one of RFC 6455.
 *
 * **Details**
 *
 * `traceHeaders` are what would lead the server's spans to the client's. `restore` makes an effect interruptible.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attempt {
  readonly url: WebSocketUrl
  readonly input: string
  readonly options: ConnectOptions
  readonly metrics: ConnectionMetrics | undefined
  readonly traceHeaders: Handshake.Headers
  readonly restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/**
 * Makes the client of a platform that does the opening handshake by itself.
 *
 * **When to use**
 *
 * Where {@link make} does not fit, because the platform gives no access to the request and the response.
 *
 * **Details**
 *
 * `establish` makes one connection. It is not interrupted, except where it allows that by `restore`: so nothing gets lost
 * between an open socket and the connection that owns it. Spans, the outcomes in the metrics and the debug log are added.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeWith = (
  establish: (attempt: Attempt) => Effect.Effect<Connection.Connection, ConnectError["reason"], Scope.Scope>
): Effect.Effect<WebSocketClient["Service"]> =>
  Effect.map(CurrentConnectionMetrics, (current) => {
    const metrics = current?.("client")
    return {
      connect: (url, options = {}) => {
        const input = String(url)
        const shown = withoutCredentials(input)
        const parsed = parseUrl(input)
        const connecting = parsed._tag === "InvalidUrl"
          ? Effect.fail(new InvalidUrl({ url: shown, detail: parsed.detail }))
          : Effect.uninterruptibleMask((restore) =>
            Spans.connect(parsed, (traceHeaders) =>
              establish({ url: parsed, input, options, metrics, traceHeaders, restore }))
          )
        const told = connecting.pipe(
          Effect.tap(() =>
            Effect.sync(() => metrics?.handshake("accepted"))
          ),
          Effect.mapError((reason) => {
            metrics?.handshake(reason._tag)
            return new ConnectError({ url: shown, reason })
          })
        )
        return options.debug === true ? Effect.tapError(told, logFailure) : told
      }
    }
  })

const logFailure = ({ reason, url }: ConnectError): Effect.Effect<void> =>
  Effect.logDebug("WebSocket handshake failed").pipe(
    Effect.annotateLogs({
      role: "client",
      url: pathOf(url),
      outcome: reason._tag,
      ...("status" in reason && { status: reason.status }),
      ...("detail" in reason && { detail: reason.detail })
    })
  )

// Section 4.1 lets a server choose none of the subprotocols; who offered some cannot speak without.
const checkResponse: typeof Handshake.checkResponse = (response, expected) => {
  const checked = Handshake.checkResponse(response, expected)
  if (checked._tag === "Accepted" && checked.subprotocol === undefined && expected.subprotocols.length > 0) {
    return { _tag: "HandshakeFailure", section: "4.1", detail: "the server chose none of the subprotocols offered" }
  }
  return checked
}
