/**
 * A server on Node for sockets that others accepted.
 *
 * @since 0.1.0
 */
import * as ServerRuntime from "@effect-ws/core/ServerRuntime"
import type { Address } from "@effect-ws/core/Transport"
import { WebSocketServer } from "@effect-ws/core/WebSocketServer"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Http from "node:http"
import type { Duplex } from "node:stream"
import * as NodeUpgrade from "./internal/upgrade.ts"

/**
 * Takes sockets that others accepted into a server. Provided by {@link layer}.
 *
 * @category services
 * @since 0.1.0
 */
export class SocketAdopter extends Context.Service<SocketAdopter, {
  readonly adopt: (socket: Duplex, options?: AdoptOptions) => Effect.Effect<void>
}>()("@effect-ws/node/NodeWebSocketAdopter/SocketAdopter") {}

/**
 * `initialData` are bytes that were read from the socket already: some of the request, all of it, or frames behind it too.
 *
 * @category models
 * @since 0.1.0
 */
export interface AdoptOptions {
  readonly initialData?: Uint8Array | undefined
}

/**
 * Provides a `WebSocketServer` that does not listen, and takes the sockets that {@link adopt} gives it.
 *
 * **When to use**
 *
 * Where a port speaks several protocols, or another process accepts connections. The sockets that an `http.Server` accepts
 * are better left to `NodeWebSocketServer.layerFromHttpServer`.
 *
 * **Details**
 *
 * `address` is where the sockets come from, and `secure` whether they come over TLS, for the service's `address` and `url`.
 * Everything else is as with `NodeWebSocketServer.layer`: plain HTTP is answered 426, a request that takes too long 408, and
 * what is not upgraded is dropped with the layer.
 *
 * **Example** (WebSockets on a port of one's own)
 *
 * ```ts
 * import { WebSocketServer } from "@effect-ws/core"
 * import { NodeWebSocketAdopter } from "@effect-ws/node"
 * import { Effect, Layer, Stream } from "effect"
 * import * as Net from "node:net"
 *
 * const Echo = WebSocketServer.serve((connection) =>
 *   Stream.runForEach(connection.messages, (message) => connection.send(message))
 * )
 *
 * const Listener = Layer.effectDiscard(Effect.gen(function*() {
 *   const { adopt } = yield* NodeWebSocketAdopter.SocketAdopter
 *   const run = Effect.runForkWith(yield* Effect.context())
 *   yield* Effect.acquireRelease(
 *     Effect.sync(() => Net.createServer((socket) => run(adopt(socket))).listen(8080)),
 *     (server) => Effect.sync(() => server.close())
 *   )
 * }))
 *
 * const Server = Layer.mergeAll(Echo, Listener).pipe(
 *   Layer.provide(NodeWebSocketAdopter.layer({ address: { _tag: "Tcp", host: "127.0.0.1", port: 8080 } }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: ServerRuntime.ServerOptions & { readonly address: Address; readonly secure?: boolean | undefined }
): Layer.Layer<WebSocketServer | SocketAdopter> =>
  Layer.effectContext(Effect.gen(function*() {
    const { onUpgrade, reject, runtime } = yield* NodeUpgrade.makeRuntime(options)
    const scope = yield* Effect.scope
    const arrivals = new Map<Duplex, Deferred.Deferred<void>>()
    const arrived = (socket: Duplex) => {
      const arrival = arrivals.get(socket)
      if (arrival !== undefined) Deferred.doneUnsafe(arrival, Effect.void)
    }
    let isReleased = false
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isReleased = true
      })
    )
    // It does not listen, and so minds no timeouts either; of too many headers it shall see one.
    const http = Http.createServer()
    http.maxHeadersCount = (options.maxHeaders ?? 128) + 1
    http.on("upgrade", (request, socket, head) => {
      arrived(socket)
      onUpgrade(request, socket, head)
    })
    http.on("connect", (request, socket, head) => http.emit("upgrade", request, socket, head))
    http.on("request", (request, response) => {
      arrived(request.socket)
      request.resume()
      reject(response, ServerRuntime.upgradeRequired)
    })

    const adopt = Effect.fnUntraced(function*(socket: Duplex, { initialData }: AdoptOptions = {}) {
      const arrival = Deferred.makeUnsafe<void>()
      // From here on the socket is ours alone, and a reset must not be an unhandled error.
      socket.on("error", () => {})
      if (isReleased) socket.destroy()
      if (socket.destroyed) return
      arrivals.set(socket, arrival)
      socket.once("close", () => arrived(socket))
      if (initialData !== undefined && initialData.length > 0) socket.unshift(initialData)
      http.emit("connection", socket)
      // It may have been paused while nobody knew what to do with it.
      socket.resume()
      yield* Deferred.await(arrival).pipe(
        Effect.timeoutOrElse({
          duration: options.handshakeTimeout ?? "10 seconds",
          orElse: () => Effect.sync(() => void socket.end(requestTimeout, () => socket.destroy()))
        }),
        Effect.onInterrupt(() => Effect.sync(() => socket.destroy())),
        Effect.ensuring(Effect.sync(() => arrivals.delete(socket))),
        Effect.forkIn(scope)
      )
    }, Effect.uninterruptible)

    return Context.make(WebSocketServer, runtime.server).pipe(Context.add(SocketAdopter, { adopt }))
  }))

// What Node answers, on a server that listens.
const requestTimeout = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"

/**
 * Gives a socket, or any duplex stream, to a server as if that had accepted it: its routes, handshake hooks, limits and
 * shutdown apply. Succeeds at once.
 *
 * **Details**
 *
 * With TLS, it is the encrypted socket that is given. After a handshake that somebody else has done, use
 * `NodeConnection.fromUpgraded`.
 *
 * **Gotchas**
 *
 * The socket belongs to the server from here on: take off your own listeners before.
 *
 * @category adopting
 * @since 0.1.0
 */
export const adopt = (socket: Duplex, options?: AdoptOptions): Effect.Effect<void, never, SocketAdopter> =>
  SocketAdopter.use((adopter) => adopter.adopt(socket, options))
