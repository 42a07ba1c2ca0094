/**
 * The server on Node.
 *
 * @since 0.1.0
 */
import * as HandshakeRequest from "@effect-ws/core/HandshakeRequest"
import * as ServerRuntime from "@effect-ws/core/ServerRuntime"
import type { Address } from "@effect-ws/core/Transport"
import { type Route, WebSocketServer } from "@effect-ws/core/WebSocketServer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import * as Https from "node:https"
import type { Socket } from "node:net"
import * as Tls from "node:tls"
import * as NodeUpgrade from "./internal/upgrade.ts"
import * as NodeTls from "./NodeTls.ts"

const tag = "@effect-ws/node/NodeWebSocketServer"

/**
 * Another socket listens at the address.
 *
 * @category errors
 * @since 0.1.0
 */
export class AddressInUse extends Schema.TaggedError<AddressInUse>(`${tag}/AddressInUse`)("AddressInUse", {}) {}

/**
 * The address cannot be listened at: not this machine's, not permitted, not resolvable.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenFailed extends Schema.TaggedError<ListenFailed>(`${tag}/ListenFailed`)("ListenFailed", {
  cause: Schema.Defect()
}) {}

/**
 * A server could not be started.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenError extends Schema.TaggedError<ListenError>(`${tag}/ListenError`)("ListenError", {
  address: Schema.Union([
    Schema.TaggedStruct("Tcp", { host: Schema.String, port: Schema.Number }),
    Schema.TaggedStruct("Unix", { path: Schema.String })
  ]),
  reason: Schema.Union([AddressInUse, ListenFailed, NodeTls.InvalidCertificate])
}) {
  override get message() {
    const { address, reason } = this
    const where = address._tag === "Unix" ? address.path : `${address.host}:${address.port}`
    return `${reason._tag}: ${where}${"detail" in reason ? `: ${reason.detail}` : ""}`
  }
}

/**
 * Where to listen: at a TCP port, or at a Unix socket.
 *
 * @category models
 * @since 0.1.0
 */
export type Options = TcpOptions | UnixOptions

/**
 * To listen at a TCP port. `host` is 127.0.0.1 by default; with port 0 the system assigns a free port, which the
 * service's `address` tells.
 *
 * @category models
 * @since 0.1.0
 */
export interface TcpOptions extends CommonOptions {
  readonly port: number
  readonly host?: string | undefined
}

/**
 * To listen at a Unix socket, at the path `socketPath`.
 *
 * **Details**
 *
 * The file is made by the server and removed when the layer is released. Whoever may write to it may connect.
 *
 * **Gotchas**
 *
 * The file of a server that was killed stays behind, and then is an {@link AddressInUse} like that of one that lives.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnixOptions extends CommonOptions {
  readonly socketPath: string
}

/**
 * What is the same wherever the server listens, beside the options of every platform.
 *
 * **Details**
 *
 * With `tls`, the options of `node:tls`, the server speaks TLS and nothing else: `cert` and `key` are its certificate,
 * with the chain behind it, and the key; `requestCert`, `ca` and `rejectUnauthorized` ask for client certificates and
 * tell which are trusted; `SNICallback` chooses by the host name. The time for the TLS handshake is `handshakeTimeout`,
 * the one beside `tls`.
 *
 * @category models
 * @since 0.1.0
 */
export interface CommonOptions extends ServerRuntime.ServerOptions {
  readonly tls?: Tls.TlsOptions | undefined
}

/**
 * Provides a `WebSocketServer` that listens by itself. HTTP is parsed by `node:http`, TLS is that of `node:tls`.
 *
 * **Details**
 *
 * Plain HTTP requests are answered 426. When the layer is released, the server stops listening, and what is not upgraded
 * is dropped; connections have ended before, with the layers of `WebSocketServer.serve` that need the server.
 *
 * **Example** (An echo server)
 *
 * ```ts
 * import { WebSocketServer } from "@effect-ws/core"
 * import { NodeWebSocketServer } from "@effect-ws/node"
 * import { Layer, Stream } from "effect"
 *
 * const echo = WebSocketServer.serve((connection) =>
 *   Stream.runForEach(connection.messages, (message) => connection.send(message))
 * ).pipe(Layer.provide(NodeWebSocketServer.layer({ port: 8080 })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<WebSocketServer, ListenError> =>
  layerFromHttpServer(
    Effect.gen(function*() {
      const http = yield* makeHttpServer(options)
      http.on("request", (request, response) => {
        request.resume()
        NodeUpgrade.respond(response, ServerRuntime.upgradeRequired)
      })
      // Without a listener, Node drops it without an answer. This one says that the method is not GET.
      http.on("connect", (request, socket, head) => http.emit("upgrade", request, socket, head))
      yield* listen(http, options)
      return http
    }),
    options
  )

/**
 * The options of a server that is mounted on another. `hosts` are the names that it goes by, in lower case and without a
 * port, where one HTTP server serves several: what the `Host` header of a request has to say; by default, anything.
 *
 * @category models
 * @since 0.1.0
 */
export interface MountOptions extends ServerRuntime.ServerOptions {
  readonly hosts?: ReadonlyArray<string> | undefined
}

/**
 * Provides a `WebSocketServer` on an HTTP server that others made, so that pages and WebSockets share one port.
 *
 * **When to use**
 *
 * To serve WebSockets beside an application of `node:http` or `node:https`. Where there is nothing but WebSockets, use
 * {@link layer}.
 *
 * **Details**
 *
 * The effect gives a server that listens already. Only its `upgrade` events are handled. Ordinary requests stay with the
 * server's own listeners, and so do the limits and timeouts of reading a request.
 *
 * Several layers may be mounted on one server, and other `upgrade` listeners may stand beside them. Each request goes to
 * the layers that name its host, if there are any, or else to those that name none; and of these to the one that serves
 * its path, or else to one that serves every path. What none of them serves is left alone if there are other listeners,
 * and is answered 404 if there are none.
 *
 * When the layer is released, its connections have been closed with 1001, and the server goes on without them, unless it
 * lives in the layer's scope: then it is released next.
 *
 * **Gotchas**
 *
 * Beside other `upgrade` listeners, name the `path` of each `serve`: one that serves every path leaves them nothing, and
 * both would answer. What nobody answers stays open, as Node sets no limit to it.
 *
 * **Example** (A page and an echo server on one port)
 *
 * ```ts
 * import { WebSocketServer } from "@effect-ws/core"
 * import { NodeWebSocketServer } from "@effect-ws/node"
 * import { Effect, Layer, Stream } from "effect"
 * import * as Http from "node:http"
 *
 * const http = Http.createServer((_request, response) => response.end("Hello")).listen(8080)
 *
 * const echo = WebSocketServer.serve((connection) =>
 *   Stream.runForEach(connection.messages, (message) => connection.send(message))
 * ).pipe(Layer.provide(NodeWebSocketServer.layerFromHttpServer(Effect.succeed(http))))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFromHttpServer = <E, R>(
  server: Effect.Effect<Http.Server | Https.Server, E, R>,
  { hosts, ...options }: MountOptions = {}
): Layer.Layer<WebSocketServer, E, Exclude<R, Scope.Scope>> =>
  Layer.effect(
    WebSocketServer,
    Effect.gen(function*() {
      const http = yield* server
      const address = addressOf(http)
      if (address === undefined) return yield* Effect.die(new Error("the HTTP server does not listen yet"))
      const secure = http instanceof Tls.Server
      const { onUpgrade, refuse, runtime } = yield* NodeUpgrade.makeRuntime({ ...options, address, secure })
      const mount: Mount = { hosts: hosts && new Set(hosts), routeOf: runtime.routeOf }
      const listener: NodeUpgrade.UpgradeListener = (request, socket, head) => {
        const all = http.listeners("upgrade").map((listener) => mounts.get(listener))
        const chosen = choose(all, request)
        if (chosen === mount) return onUpgrade(request, socket, head)
        // Nobody is left who may know better.
        if (chosen === undefined && all[0] === mount && !all.includes(undefined)) {
          refuse(request, ServerRuntime.notFound)
        }
      }
      mounts.set(listener, mount)
      yield* Effect.acquireRelease(
        Effect.sync(() => http.on("upgrade", listener)),
        () => Effect.sync(() => http.off("upgrade", listener))
      )
      return runtime.server
    })
  )

// What a layer serves of the server that it is mounted on.
interface Mount {
  readonly hosts: ReadonlySet<string> | undefined
  readonly routeOf: (path: string) => Route | undefined
}

// The listeners of this module, told from those of others.
const mounts = new WeakMap<Function, Mount>()

// Which of the layers on a server a request is for: by host, if any of them names it, and then by path, or else whoever
// serves every path. Alone on its server, a layer answers whatever comes.
const choose = (all: ReadonlyArray<Mount | undefined>, request: Http.IncomingMessage): Mount | undefined => {
  if (all.length === 1 && all[0]?.hosts === undefined) return all[0]
  const host = HandshakeRequest.parseTarget(`http://${request.headers.host ?? ""}`)?.hostname
  const path = HandshakeRequest.parseTarget(request.url ?? "")?.pathname
  if (path === undefined) return undefined
  const ofHost = all.filter((mount) => host !== undefined && mount?.hosts?.has(host))
  const candidates = ofHost.length > 0 ? ofHost : all.filter((mount) => mount?.hosts === undefined)
  return candidates.find((mount) => mount?.routeOf(path)?.path !== undefined) ??
    candidates.find((mount) => mount?.routeOf(path) !== undefined)
}

const makeHttpServer = Effect.fnUntraced(function*(options: Options) {
  const { tls } = options
  const timeout = Duration.toMillis(options.handshakeTimeout ?? "10 seconds")
  // Node wants an integer, and zero for none.
  const handshakeTimeout = timeout === Infinity ? 0 : Math.ceil(timeout)
  const timeouts = {
    // The whole head of a request has to arrive in time; Node checks it only this often.
    headersTimeout: handshakeTimeout,
    requestTimeout: handshakeTimeout,
    connectionsCheckingInterval: Math.ceil(Math.min(1000, timeout / 2))
  }
  if (tls !== undefined) yield* Effect.mapError(checkTls(tls), (reason) => failure(options, reason))
  const http = tls === undefined ? Http.createServer(timeouts) : Https.createServer({
    ...tls,
    ...timeouts,
    // Here zero is not none; this is the longest time that Node knows.
    handshakeTimeout: Math.min(handshakeTimeout || Infinity, 2 ** 31 - 1)
  })
  // One more than allowed, as Node silently drops the rest and nobody would know that there were too many.
  http.maxHeadersCount = (options.maxHeaders ?? 128) + 1
  return http
})

const checkTls = Effect.fnUntraced(function*(tls: Tls.TlsOptions) {
  yield* NodeTls.secureContext(tls)
  const { SNICallback, cert, pfx, pskCallback } = tls
  if (cert?.length || pfx?.length || SNICallback || pskCallback) return
  const detail = "no certificate"
  return yield* new NodeTls.InvalidCertificate({ detail, cause: new Error(detail) })
})

const failure = (options: Options, reason: ListenError["reason"]): ListenError => {
  const address: ListenError["address"] = "socketPath" in options
    ? { _tag: "Unix", path: options.socketPath }
    : { _tag: "Tcp", host: options.host ?? "127.0.0.1", port: options.port }
  return new ListenError({ address, reason })
}

const listen = (http: Http.Server, options: Options): Effect.Effect<void, ListenError, Scope.Scope> => {
  const sockets = new Set<Socket>()
  if (http instanceof Tls.Server) {
    // To HTTP, a socket is known only after its TLS handshake.
    http.on("connection", (socket) => {
      sockets.add(socket)
      socket.once("close", () => sockets.delete(socket))
    })
  }
  return Effect.acquireRelease(
    Effect.callback<void, ListenError>((resume) => {
      const onError = (cause: NodeJS.ErrnoException) => {
        const reason = cause.code === "EADDRINUSE" ? new AddressInUse({}) : new ListenFailed({ cause })
        resume(Effect.fail(failure(options, reason)))
      }
      // For good: what fails later, such as accepting a connection, must not be an unhandled error.
      http.on("error", onError)
      const where = "socketPath" in options
        ? { path: options.socketPath }
        : { port: options.port, host: options.host ?? "127.0.0.1" }
      try {
        http.listen(where, () => resume(Effect.void))
      } catch (cause) {
        // A port beyond the range.
        onError(cause as NodeJS.ErrnoException)
      }
    }),
    () =>
      Effect.callback<void>((resume) => {
        http.close(() => resume(Effect.void))
        http.closeAllConnections()
        for (const socket of sockets) socket.destroy()
      })
  )
}

const addressOf = (http: Http.Server): Address | undefined => {
  const address = http.address()
  if (address === null) return undefined
  return typeof address === "string"
    ? { _tag: "Unix", path: address }
    : { _tag: "Tcp", host: address.address, port: address.port }
}
