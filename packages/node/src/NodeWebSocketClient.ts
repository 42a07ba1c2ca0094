/**
 * The client on Node.
 *
 * @since 0.1.0
 */
import type { Connection } from "@effect-ws/core/Connection"
import { invalidHeader } from "@effect-ws/core/protocol/Handshake"
import * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import { type ConnectError, InvalidRequest } from "@effect-ws/core/WebSocketError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { randomFillSync } from "node:crypto"
import type { Duplex } from "node:stream"
import * as Tls from "node:tls"
import { ask } from "./internal/opening.ts"
import { platform } from "./internal/platform.ts"
import * as Tunnel from "./internal/tunnel.ts"
import * as NodeProxy from "./NodeProxy.ts"
import * as NodeTls from "./NodeTls.ts"

/**
 * The options of `node:tls` for a client, but for those that say where to connect.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `ca` | Node's | the authorities that may have issued the server's certificate |
 * | `cert`, `key` | none | the certificate that this client shows, if the server asks for one |
 * | `servername` | the URL's host | the name in SNI, which the server's certificate has to be for |
 * | `checkServerIdentity` | Node's | how that is checked |
 * | `ALPNProtocols` | `["http/1.1"]` | what is offered in ALPN |
 * | `rejectUnauthorized` | true | false takes any certificate |
 *
 * **Gotchas**
 *
 * Without verification, anybody on the way to the server can read and change everything: better trust a certificate of
 * your own by `ca`. The environment variable `NODE_TLS_REJECT_UNAUTHORIZED` has no say here.
 *
 * @category models
 * @since 0.1.0
 */
export type TlsOptions = Omit<
  Tls.ConnectionOptions,
  "host" | "port" | "path" | "socket" | "lookup" | "timeout" | "session"
>

/**
 * The options of a client, for all of its connections.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `tls` | Node's | TLS to servers, for `wss:` and `wss+unix:` URLs |
 * | `proxy` | the environment's | the URL of a proxy (`http:`, `https:`, `socks5:`, `socks5h:`), or `false` for none |
 * | `proxyTls` | Node's | TLS to a proxy whose URL is `https:` |
 * | `lookup` | `dns.lookup` | finds the addresses of a host name |
 * | `family` | both | 4 or 6: only addresses of IPv4 or IPv6 |
 * | `localAddress` | the system's | the address to connect from |
 *
 * Without `proxy`, the variables `https_proxy` (for `wss:`), `http_proxy` (for `ws:`), `all_proxy` (for both) and `no_proxy`
 * say what to do, read with the `ConfigProvider` when the layer is built. All but `http_proxy` may be in upper case. An
 * option holds for every URL, whatever `no_proxy` says. No proxy leads to a Unix socket.
 *
 * User name and password of a proxy stand in its URL. With `socks5:`, this side looks up the server's address, with
 * `socks5h:` the proxy does, as with `http:` and `https:`.
 *
 * **Gotchas**
 *
 * Behind a proxy, `lookup`, `family` and `localAddress` are for the connection to the proxy (and, with `socks5:`, the first
 * two for the server's name), and the connection's `peerAddress` is the proxy's.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Tunnel.SocketOptions {
  readonly tls?: TlsOptions | undefined
  readonly proxy?: string | URL | false | undefined
  readonly proxyTls?: TlsOptions | undefined
}

// Stated, as Node would let the environment turn verification off.
const strict: Tls.ConnectionOptions = { rejectUnauthorized: true, ALPNProtocols: ["http/1.1"] }

// Certificates and keys are read once.
const settle = (tls: TlsOptions | undefined): Effect.Effect<Tls.ConnectionOptions, NodeTls.InvalidCertificate> =>
  tls === undefined || tls.secureContext !== undefined
    ? Effect.succeed({ ...strict, ...tls })
    : Effect.map(NodeTls.secureContext(tls), (secureContext) => ({ ...strict, ...tls, secureContext }))

const chooserOf = (proxy: Options["proxy"]): Effect.Effect<ReturnType<typeof NodeProxy.fromEnvironment>> => {
  if (proxy === undefined) return Effect.map(NodeProxy.environment, NodeProxy.fromEnvironment)
  const always = proxy === false ? undefined : NodeProxy.parse(proxy)
  return Effect.succeed(() => always)
}

const make = Effect.fnUntraced(function*({ proxy, proxyTls, tls, ...socketOptions }: Options) {
  const choose = yield* chooserOf(proxy)
  const serverTls = yield* settle(tls)
  const throughTls = yield* settle(proxyTls)
  const open: WebSocketClient.Platform["open"] = (request) => {
    const { headers, url } = request
    const proxy = url.socketPath === undefined ? choose(url) : undefined
    if (proxy === undefined) return ask(request, { ...socketOptions, ...(url.secure && serverTls) })
    if (proxy._tag === "InvalidProxy") return Effect.fail(proxy)
    const invalid = invalidHeader(headers)
    if (invalid !== undefined) return Effect.fail(new InvalidRequest({ detail: `header ${invalid} is not HTTP` }))
    const secure = (socket: Duplex) =>
      Tls.connect({ ...serverTls, servername: Tunnel.serverName(url.host, serverTls), host: url.host, socket })
    return Effect.uninterruptibleMask((restore) =>
      restore(Tunnel.open(proxy, url, socketOptions, throughTls)).pipe(
        Effect.flatMap((tunnel) =>
          restore(ask(request, {}, () => url.secure ? secure(tunnel) : tunnel)).pipe(
            Effect.onError(() => Effect.sync(() => tunnel.destroy()))
          )
        )
      )
    )
  }
  return yield* WebSocketClient.make({ open, randomFill: randomFillSync, ...platform })
})

/**
 * Provides `WebSocketClient` over Node's sockets. HTTP is parsed by `node:http`, TLS is that of `node:tls`.
 *
 * **Details**
 *
 * The environment may name proxies, see {@link Options}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<WebSocketClient.WebSocketClient> = Layer.effect(
  WebSocketClient.WebSocketClient,
  // Without options, there is no certificate to be wrong.
  Effect.orDie(make({}))
)

/**
 * Provides `WebSocketClient` with options of its own: other authorities, a client certificate, a proxy.
 *
 * **Details**
 *
 * Certificates and keys are read once, when the layer is built; there a bad one is an error.
 *
 * **Example** (Trusting an authority of one's own)
 *
 * ```ts
 * import { NodeWebSocketClient } from "@effect-ws/node"
 *
 * const clientOf = (authority: string) => NodeWebSocketClient.layerWith({ tls: { ca: authority } })
 * ```
 *
 * **Example** (Through a proxy)
 *
 * ```ts
 * import { NodeWebSocketClient } from "@effect-ws/node"
 *
 * const Client = NodeWebSocketClient.layerWith({ proxy: "http://user:password@proxy.example:3128" })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: Options
): Layer.Layer<WebSocketClient.WebSocketClient, NodeTls.InvalidCertificate> =>
  Layer.effect(WebSocketClient.WebSocketClient, make(options))

/**
 * Connects to a URL over a socket, or any duplex stream, that leads to its server already.
 *
 * **When to use**
 *
 * To connect through a tunnel of one's own, over TLS with options of one's own, or to continue on a socket that has spoken
 * another protocol before. Where the server has answered the handshake already, use `NodeConnection.fromUpgraded`.
 *
 * **Details**
 *
 * The URL supplies what the request says; with `wss:`, the socket is the encrypted one. `initialData` are bytes that were
 * read from it already. The socket belongs to the effect from the beginning, and is gone if that fails or is interrupted.
 * Redirects are not followed, as they lead elsewhere.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromSocket = (
  socket: Duplex,
  url: string | URL,
  { initialData, ...options }: Omit<WebSocketClient.ConnectOptions, "maxRedirects"> & {
    readonly initialData?: Uint8Array | undefined
  } = {}
): Effect.Effect<Connection, ConnectError, Scope.Scope> =>
  Effect.gen(function*() {
    // A reset must not be an unhandled error, whoever listens later.
    socket.on("error", () => {})
    if (initialData !== undefined && initialData.length > 0) socket.unshift(initialData)
    const client = yield* WebSocketClient.make({
      open: (request) => ask(request, {}, () => socket),
      randomFill: randomFillSync,
      ...platform
    })
    return yield* client.connect(url, options)
  }).pipe(Effect.onError(() => Effect.sync(() => socket.destroy())))
