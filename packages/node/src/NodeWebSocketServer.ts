/**
 * The server on Node.
 *
 * @since 0.1.0
 */
import * as ServerRuntime from "@effect-ws/core/ServerRuntime"
import type { Address } from "@effect-ws/core/Transport"
import { WebSocketServer } from "@effect-ws/core/WebSocketServer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { createHash } from "node:crypto"
import * as Http from "node:http"
import * as Https from "node:https"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Tls from "node:tls"
import { fromRaw } from "./internal/headers.ts"
import * as NodeTls from "./NodeTls.ts"
import * as NodeTransport from "./NodeTransport.ts"
import * as NodeUtf8 from "./NodeUtf8.ts"

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
        respond(response, ServerRuntime.upgradeRequired)
      })
      yield* listen(http, options)
      return http
    }),
    options
  )

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
 * The effect gives a server that listens already. Only its `upgrade` events are handled, all of them: a path that nobody
 * serves is answered 404. Ordinary requests stay with the server's own listeners, and so do the limits and timeouts of
 * reading a request.
 *
 * When the layer is released, its connections have been closed with 1001, and the server goes on without them, unless it
 * lives in the layer's scope: then it is released next.
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
  options: ServerRuntime.ServerOptions = {}
): Layer.Layer<WebSocketServer, E, Exclude<R, Scope.Scope>> =>
  Layer.effect(
    WebSocketServer,
    Effect.gen(function*() {
      const http = yield* server
      const address = addressOf(http)
      if (address === undefined) return yield* Effect.die(new Error("the HTTP server does not listen yet"))
      const runtime = yield* ServerRuntime.make({
        ...options,
        address,
        secure: http instanceof Tls.Server,
        sha1: (bytes) => createHash("sha1").update(bytes).digest(),
        utf8: NodeUtf8.codec
      })
      const rejected = new Set<Socket>()
      const onUpgrade = (request: Http.IncomingMessage, socket: Duplex, head: Buffer) => {
        // From here on the socket is ours alone, and an error of it must neither be unhandled nor leave it open.
        socket.on("error", destroy)
        const response = responseTo(request)
        if (response === undefined) socket.destroy()
        else runtime.upgrade(upgradeOf(request, response, head, rejected))
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => http.on("upgrade", onUpgrade)),
        () =>
          Effect.sync(() => {
            http.off("upgrade", onUpgrade)
            for (const socket of rejected) socket.destroy()
          })
      )
      return runtime.server
    })
  )

// One for all sockets, as it stays with them.
function destroy(this: Duplex): void {
  this.destroy()
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

const upgradeOf = (
  request: Http.IncomingMessage,
  response: Http.ServerResponse,
  head: Buffer,
  rejected: Set<Socket>
): ServerRuntime.Upgrade => {
  const { socket } = request
  let unanswered: { readonly response: Http.ServerResponse; readonly head: Buffer } | undefined = { response, head }
  // Let go with the answer: a connection outlives its request by far.
  const take = () => {
    if (unanswered === undefined) throw new Error("the request is answered already")
    const taken = unanswered
    unanswered = undefined
    return taken
  }
  return {
    method: request.method ?? "",
    httpVersion: request.httpVersion,
    url: request.url ?? "",
    headers: fromRaw(request.rawHeaders),
    rawHeaders: request.rawHeaders,
    peerAddress: NodeTransport.peerAddress(socket),
    localAddress: NodeTransport.localAddress(socket),
    tls: NodeTls.stateOf(socket),
    accept: (headers) => {
      const { head, response } = take()
      response.writeHead(101, headers as Http.OutgoingHttpHeaders)
      response.flushHeaders()
      response.detachSocket(socket)
      // Who ends what it sends is still sent what waits, and a Close. It is so in `node:http`, and not in `node:https`.
      socket.allowHalfOpen = true
      return NodeTransport.fromSocket(socket, head)
    },
    reject: (rejection) => {
      const { response } = take()
      rejected.add(socket)
      socket.once("close", () => rejected.delete(socket))
      response.shouldKeepAlive = false
      response.on("finish", () => socket.destroySoon())
      respond(response, rejection)
    },
    abandon: () => socket.destroy(),
    lost: gone(socket)
  }
}

// Node writes the response. There is none while an earlier request of the same socket waits for its own: nobody who asks
// for an upgrade has reason to send it behind another request.
const responseTo = (request: Http.IncomingMessage): Http.ServerResponse | undefined => {
  const response = new Http.ServerResponse(request)
  try {
    response.assignSocket(request.socket)
    return response
  } catch {
    return undefined
  }
}

const respond = (response: Http.ServerResponse, { body, headers, status }: ServerRuntime.Response): void => {
  response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) })
  response.end(body)
}

// Who will not send any more cannot close a connection either (RFC 6455, section 7.1.2).
const gone = (socket: Socket): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const onGone = () => resume(Effect.void)
    if (socket.readableEnded || socket.closed) return onGone()
    socket.once("end", onGone)
    socket.once("close", onGone)
    return Effect.sync(() => {
      socket.off("end", onGone)
      socket.off("close", onGone)
    })
  })
