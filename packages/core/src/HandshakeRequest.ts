/**
 * The opening request of a client, as a server's handshake hook sees it, and the ways to answer it.
 *
 * @since 0.1.0
 */
import * as Cookies from "effect/http/Cookies"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Origination } from "./protocol/Forwarded.ts"
import type { Headers, ResponseHeaders } from "./protocol/Handshake.ts"
import type { TlsState } from "./TlsState.ts"
import type { Address } from "./Transport.ts"

/**
 * A well-formed opening request (RFC 6455, section 4.2.1).
 *
 * **Details**
 *
 * `method` is `GET`, `url` the request target as sent, `path` and `query` its parts. Header names are in lower case; a repeated header's
 * values are joined by commas. `subprotocols` are those offered, in the client's order of preference.
 *
 * `peerAddress` and `localAddress` are the two ends of the socket, and `tls` is there if TLS is spoken on it. Behind a proxy,
 * that says nothing of the client. `clientAddress`, an IP address without a port, `secure` (whether the client used TLS) and
 * `host` (which host it asked for) do, as far as the server was told by `trustedProxies` whom to believe; without proxies,
 * they tell of the socket and its `Host` header.
 *
 * **Gotchas**
 *
 * `query` and `cookies` are parsed when they are asked for: a copy that is made by spreading a request lacks them.
 *
 * @category models
 * @since 0.1.0
 */
export interface HandshakeRequest {
  readonly method: string
  readonly url: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: Headers
  readonly cookies: Readonly<Record<string, string>>
  readonly subprotocols: ReadonlyArray<string>
  readonly clientAddress: Option.Option<string>
  readonly secure: boolean
  readonly host: string
  readonly peerAddress: Option.Option<Address>
  readonly localAddress: Option.Option<Address>
  readonly tls: Option.Option<TlsState>
}

/**
 * The answer that accepts a request: with one of the offered subprotocols, further response headers (an array for one that
 * is repeated, such as `Set-Cookie`), and data for the handler. `debug` logs what happens on this connection, whatever the
 * server's option says.
 *
 * @category models
 * @since 0.1.0
 */
export interface Accepted<out Data> {
  readonly subprotocol?: string | undefined
  readonly headers?: ResponseHeaders | undefined
  readonly debug?: boolean | undefined
  readonly data: Data
}

/**
 * The answer that rejects a request, as an HTTP response; a handshake hook fails with it.
 *
 * **Example** (Demanding a token)
 *
 * ```ts
 * import { HandshakeRequest } from "@effect-ws/core"
 * import { Effect } from "effect"
 *
 * const authenticate = Effect.fnUntraced(function*(request: HandshakeRequest.HandshakeRequest) {
 *   const token = request.query.get("token")
 *   if (token === null) return yield* new HandshakeRequest.HandshakeRejected({ status: 401, body: "no token" })
 *   return { data: { token } }
 * })
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class HandshakeRejected extends Schema.TaggedError<HandshakeRejected>(
  "@effect-ws/core/HandshakeRequest/HandshakeRejected"
)("HandshakeRejected", {
  status: Schema.Int,
  headers: Schema.optionalKey(
    Schema.Record(Schema.String, Schema.Union([Schema.String, Schema.Array(Schema.String)]))
  ),
  body: Schema.optionalKey(Schema.String)
}) {}

/**
 * Makes the request that a hook sees from the head that the platform parsed.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (head: Head): HandshakeRequest => new Request(head)

interface Head {
  readonly method: string
  readonly url: string
  readonly target: URL
  readonly headers: Headers
  readonly subprotocols: ReadonlyArray<string>
  readonly origination: Origination
  readonly peerAddress: Address | undefined
  readonly localAddress: Address | undefined
  readonly tls: TlsState | undefined
}

// A class, as an object with getters of its own costs 5 microseconds.
class Request implements HandshakeRequest {
  readonly method: string
  readonly url: string
  readonly path: string
  readonly headers: Headers
  readonly subprotocols: ReadonlyArray<string>
  readonly clientAddress: Option.Option<string>
  readonly secure: boolean
  readonly host: string
  readonly peerAddress: Option.Option<Address>
  readonly localAddress: Option.Option<Address>
  readonly tls: Option.Option<TlsState>
  private readonly target: URL

  constructor({ headers, localAddress, method, origination, peerAddress, subprotocols, target, tls, url }: Head) {
    this.method = method
    this.url = url
    this.path = target.pathname
    this.headers = headers
    this.subprotocols = subprotocols
    this.clientAddress = Option.fromUndefinedOr(origination.address)
    this.secure = origination.secure
    this.host = origination.host
    this.peerAddress = Option.fromUndefinedOr(peerAddress)
    this.localAddress = Option.fromUndefinedOr(localAddress)
    this.tls = Option.fromUndefinedOr(tls)
    this.target = target
  }

  // Few hooks look at these.
  get query(): URLSearchParams {
    return this.target.searchParams
  }
  get cookies(): Readonly<Record<string, string>> {
    return Cookies.parseHeader(this.headers["cookie"] ?? "")
  }
}

/**
 * The target of a request as a URL, whose host means nothing; `undefined` if it is none.
 *
 * @category parsing
 * @since 0.1.0
 */
export const parseTarget = (target: string): URL | undefined => {
  // RFC 6455, section 3: there is no fragment.
  if (target.includes("#")) return undefined
  // A target that begins with two slashes is a path too, not an authority (RFC 7230, section 5.3.1).
  const url = target.startsWith("/") ? `http://localhost${target}` : target
  return URL.parse(url) ?? undefined
}
