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
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { fromRaw } from "./internal/headers.ts"
import * as NodeCompression from "./NodeCompression.ts"
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
  host: Schema.String,
  port: Schema.Number,
  reason: Schema.Union([AddressInUse, ListenFailed])
}) {
  override get message() {
    return `${this.reason._tag}: ${this.host}:${this.port}`
  }
}

/**
 * Where to listen, beside the options that a server has on every platform. `host` is 127.0.0.1 by default; with port 0 the
 * system assigns a free port, which the service's `address` tells.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends ServerRuntime.ServerOptions {
  readonly port: number
  readonly host?: string | undefined
}

/**
 * Provides a `WebSocketServer` that listens on its own port. HTTP is parsed by `node:http`.
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
    Effect.suspend(() => {
      const http = makeHttpServer(options)
      http.on("request", (request, response) => {
        request.resume()
        respond(response, ServerRuntime.upgradeRequired)
      })
      return Effect.as(listen(http, options), http)
    }),
    options
  )

/**
 * Provides a `WebSocketServer` on an HTTP server that others made, so that pages and WebSockets share one port.
 *
 * **When to use**
 *
 * To serve WebSockets beside an application of `node:http`. Where there is nothing but WebSockets, use {@link layer}.
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
  server: Effect.Effect<Http.Server, E, R>,
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
        sha1: (bytes) => createHash("sha1").update(bytes).digest(),
        utf8: NodeUtf8.codec,
        compression: NodeCompression.compression
      })
      const rejected = new Set<Socket>()
      const onUpgrade = (request: Http.IncomingMessage, socket: Duplex, head: Buffer) => {
        // From here on the socket is ours alone, and a reset must not be an unhandled error.
        socket.on("error", () => {})
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

const makeHttpServer = (options: Options): Http.Server => {
  const timeout = Duration.toMillis(options.handshakeTimeout ?? "10 seconds")
  // Node wants an integer, and zero for none.
  const handshakeTimeout = timeout === Infinity ? 0 : Math.ceil(timeout)
  const http = Http.createServer({
    // The whole head of a request has to arrive in time; Node checks it only this often.
    headersTimeout: handshakeTimeout,
    requestTimeout: handshakeTimeout,
    connectionsCheckingInterval: Math.ceil(Math.min(1000, timeout / 2))
  })
  // One more than allowed, as Node silently drops the rest and nobody would know that there were too many.
  http.maxHeadersCount = (options.maxHeaders ?? 128) + 1
  return http
}

const listen = (http: Http.Server, options: Options): Effect.Effect<void, ListenError, Scope.Scope> => {
  const { host = "127.0.0.1", port } = options
  return Effect.acquireRelease(
    Effect.callback<void, ListenError>((resume) => {
      const onError = (cause: NodeJS.ErrnoException) => {
        const reason = cause.code === "EADDRINUSE" ? new AddressInUse({}) : new ListenFailed({ cause })
        resume(Effect.fail(new ListenError({ host, port, reason })))
      }
      // For good: what fails later, such as accepting a connection, must not be an unhandled error.
      http.on("error", onError)
      try {
        http.listen(port, host, () => resume(Effect.void))
      } catch (cause) {
        // A port beyond the range.
        onError(cause as NodeJS.ErrnoException)
      }
    }),
    () =>
      Effect.callback<void>((resume) => {
        http.close(() => resume(Effect.void))
        http.closeAllConnections()
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
    accept: (headers) => {
      const { head, response } = take()
      response.writeHead(101, headers as Http.OutgoingHttpHeaders)
      response.flushHeaders()
      response.detachSocket(socket)
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
