/**
 * WebSockets as routes of Effect's HTTP server on Node, beside HTTP on the same port.
 *
 * @since 0.1.0
 */
import type * as Connection from "@effect-ws/core/Connection"
import * as EffectSocket from "@effect-ws/core/EffectSocket"
import type { Accepted, HandshakeRejected } from "@effect-ws/core/HandshakeRequest"
import * as ServerRuntime from "@effect-ws/core/ServerRuntime"
import type { Route, ServeOptions } from "@effect-ws/core/WebSocketServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import type { NodeServices } from "@effect/platform-node/NodeServices"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Cookies from "effect/http/Cookies"
import type * as Etag from "effect/http/Etag"
import type * as Headers from "effect/http/Headers"
import type * as HttpPlatform from "effect/http/HttpPlatform"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import type { ServeError } from "effect/http/HttpServerError"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Socket } from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import type * as Http from "node:http"
import { platform } from "./internal/platform.ts"
import * as NodeUpgrade from "./internal/upgrade.ts"

/**
 * What routes need of the HTTP server, provided by {@link layerHttpServer}.
 *
 * **Details**
 *
 * `takeHead` gives the bytes that came behind an upgrade request, once; `undefined` if the request is no upgrade. `upgrade`
 * answers it, by the options and with the heartbeat that all connections of the server share. `run` forks what outlives the
 * handshake into fibers that end before the server waits for its requests.
 *
 * @category services
 * @since 0.1.0
 */
export class WebSocketUpgrades extends Context.Service<WebSocketUpgrades, {
  readonly takeHead: (request: Http.IncomingMessage) => Buffer | undefined
  readonly upgrade: (upgrade: ServerRuntime.Upgrade, route: Route) => void
  readonly run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
}>()("@effect-ws/node/NodeWebSocketRoute/WebSocketUpgrades") {}

/**
 * The options of Effect's HTTP server, with those of the connections in `websocket`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Omit<NodeHttpServer.Options, "websocket"> {
  readonly websocket?: ServerRuntime.ServerOptions | undefined
}

/**
 * The options of a route: those of `WebSocketServer.serve`, but for the path, which is the router's.
 *
 * @category models
 * @since 0.1.0
 */
export type UpgradeOptions<Data, R> = Omit<ServeOptions<Data, R>, "path">

/**
 * Provides Effect's HTTP server on Node, as `NodeHttpServer.layer` does, ready for WebSocket routes.
 *
 * **Details**
 *
 * When the server stops, it upgrades no more (503), interrupts the handlers of all routes and closes their connections with
 * 1001, within the close timeout, and then waits for HTTP requests as ever.
 *
 * **Gotchas**
 *
 * How long the head of a request may take is up to the `http.Server` (`headersTimeout`); `handshakeTimeout` is for the hook.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerHttpServer = (
  evaluate: Parameters<typeof NodeHttpServer.layer>[0],
  { websocket, ...options }: Options
): Layer.Layer<
  WebSocketUpgrades | HttpServer.HttpServer | NodeServices | HttpPlatform.HttpPlatform | Etag.Generator,
  ServeError
> =>
  Layer.merge(
    Layer.effectContext(Effect.gen(function*() {
      const heads = new WeakMap<Http.IncomingMessage, Buffer>()
      const server = yield* NodeHttpServer.make(() => {
        const http = evaluate()
        // Effect keeps these bytes to itself, so they are noted down before.
        http.prependListener("upgrade", (request: Http.IncomingMessage, _socket: unknown, head: Buffer) => {
          heads.set(request, head)
        })
        return http
      }, options)
      const { upgrade } = yield* ServerRuntime.makeUpgrades({ ...websocket, ...platform })
      const fibers = yield* FiberSet.make<void>()
      const run = yield* FiberSet.runtime(fibers)()
      let isStopping = false
      return Context.make(WebSocketUpgrades, {
        takeHead: (request) => {
          const head = heads.get(request)
          heads.delete(request)
          return head
        },
        upgrade: (request, route) => upgrade(request, () => isStopping ? ServerRuntime.notServing : route),
        run
      }).pipe(
        Context.add(
          HttpServer.HttpServer,
          HttpServer.make({
            address: server.address,
            serve: (app, middleware) =>
              Effect.andThen(
                server.serve(app, middleware!),
                // Comes before what the server itself does to stop.
                Effect.acquireRelease(Effect.sync(() => isStopping = false), () => {
                  isStopping = true
                  return FiberSet.clear(fibers)
                })
              )
          })
        )
      )
    })),
    NodeHttpServer.layerHttpServices
  )

/**
 * Upgrades the current request, runs `handler` once with the connection, and ends when both have ended.
 *
 * **When to use**
 *
 * As the handler of a GET route of `HttpRouter`, or anywhere else in an HTTP application.
 *
 * **Details**
 *
 * Handler and handshake hook run with all services of the request: those that middleware provides, `RouteContext`, and
 * `HttpServerRequest` itself. Everything else is as with `WebSocketServer.serve`: the scope of the connection, the codes it
 * is closed with, who logs what. The response is 101 for what is around the route, such as middleware that logs; if the
 * handshake is rejected, by the hook or for a broken rule, it is an ordinary one that passes through middleware like any
 * other. A request that asks for no upgrade is answered 426.
 *
 * Interrupting the effect interrupts the handler and closes the connection with 1001.
 *
 * **Gotchas**
 *
 * Response headers that middleware adds reach rejected clients only; headers of the 101 come from the hook.
 *
 * **Example** (HTTP and WebSockets on one port)
 *
 * ```ts
 * import * as NodeWebSocketRoute from "@effect-ws/node/NodeWebSocketRoute"
 * import { Layer, Stream } from "effect"
 * import { HttpRouter, HttpServerResponse } from "effect/http"
 * import { createServer } from "node:http"
 *
 * const Routes = Layer.mergeAll(
 *   HttpRouter.add("GET", "/", HttpServerResponse.text("Hello")),
 *   HttpRouter.add(
 *     "GET",
 *     "/echo",
 *     NodeWebSocketRoute.upgrade((connection) =>
 *       Stream.runForEach(connection.messages, (message) => connection.send(message))
 *     )
 *   )
 * )
 *
 * const Server = HttpRouter.serve(Routes).pipe(
 *   Layer.provide(NodeWebSocketRoute.layerHttpServer(createServer, { port: 8080 }))
 * )
 * ```
 *
 * @category routes
 * @since 0.1.0
 */
export const upgrade: {
  <E, R>(
    handler: (connection: Connection.Connection) => Effect.Effect<unknown, E, R>,
    options?: UpgradeOptions<void, never> & { readonly handshake?: undefined }
  ): Effect.Effect<
    HttpServerResponse.HttpServerResponse,
    never,
    WebSocketUpgrades | HttpServerRequest | Exclude<R, Scope.Scope>
  >
  <E, R, Data, RH>(
    handler: (connection: Connection.Connection, data: NoInfer<Data>) => Effect.Effect<unknown, E, R>,
    options: UpgradeOptions<Data, RH>
  ): Effect.Effect<
    HttpServerResponse.HttpServerResponse,
    never,
    WebSocketUpgrades | HttpServerRequest | Exclude<R, Scope.Scope> | RH
  >
} = <E, R, Data, RH>(
  handler: (connection: Connection.Connection, data: Data) => Effect.Effect<unknown, E, R>,
  { handshake, subprotocols = [] }: UpgradeOptions<Data, RH> = {}
): Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  never,
  WebSocketUpgrades | HttpServerRequest | Exclude<R, Scope.Scope> | RH
> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<HttpServerRequest | Exclude<R, Scope.Scope> | RH>()
    const upgrades = yield* WebSocketUpgrades
    const request = NodeHttpServerRequest.toIncomingMessage(
      Context.get(context, HttpServerRequest)
    ) as Http.IncomingMessage
    const head = upgrades.takeHead(request)
    if (head === undefined) return responseOf(ServerRuntime.upgradeRequired)
    const attempt = new Attempt(request, (effect) => upgrades.run(Effect.provideContext(effect, context)))
    const taken = attempt.take(head)
    if (taken === undefined) return responseOf(ServerRuntime.notServing)
    upgrades.upgrade(taken, {
      path: undefined,
      subprotocols,
      handshake: (request) =>
        handshake === undefined
          ? Effect.succeed({ data: undefined })
          : handshake(request) as Effect.Effect<Accepted<Data>, HandshakeRejected>,
      handler: (connection, data) => handler(connection, data as Data) as Effect.Effect<unknown, E, Scope.Scope>,
      run: attempt.run
    })
    return yield* attempt.ended
  })

/**
 * Provides a `SocketServer` whose sockets are the connections to one route, as `EffectSocket.layerServer` does for a
 * `WebSocketServer`; so `effect/rpc` shares the port of an HTTP application.
 *
 * **Details**
 *
 * While `run` does not run, requests are answered 503. Interrupting it interrupts its handlers, and closes their
 * connections with 1001. The data of the handshake hook is dropped.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSocketServer = (
  path: HttpRouter.PathInput,
  options?: UpgradeOptions<unknown, never>
): Layer.Layer<
  SocketServer.SocketServer,
  never,
  HttpRouter.HttpRouter | HttpServer.HttpServer | HttpRouter.Request<"Requires", WebSocketUpgrades>
> =>
  Layer.effect(
    SocketServer.SocketServer,
    Effect.gen(function*() {
      const router = yield* HttpRouter.HttpRouter
      const { address } = yield* HttpServer.HttpServer
      let serve: ((socket: Socket) => Effect.Effect<unknown, unknown>) | undefined
      const route = Effect.suspend(() => {
        if (serve === undefined) return Effect.succeed(responseOf(ServerRuntime.notServing))
        const handler = serve
        return upgrade((connection) => handler(EffectSocket.fromConnection(connection)), options ?? {})
      })
      yield* router.add("GET", path, route)
      return {
        address,
        run: Effect.fnUntraced(function*<R, E, _>(handler: (socket: Socket) => Effect.Effect<_, E, R>) {
          const context = yield* Effect.context<R>()
          const stopped = Deferred.makeUnsafe<never>()
          serve = (socket) => Effect.raceFirst(Effect.provideContext(handler(socket), context), Deferred.await(stopped))
          return yield* Effect.never.pipe(
            Effect.ensuring(Effect.sync(() => {
              serve = undefined
              Deferred.doneUnsafe(stopped, Effect.interrupt)
            }))
          )
        })
      }
    })
  )

// A request on its way from the router to its end: the fibers of its handshake and its connection, and its response.
class Attempt {
  private readonly request: Http.IncomingMessage
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly fibers = new Set<Fiber.Fiber<void>>()
  private readonly isOver = Deferred.makeUnsafe<void>()
  // What middleware sees of an upgrade. It is never sent: the socket is gone when it is returned.
  private response = HttpServerResponse.empty({ status: 101 })

  constructor(request: Http.IncomingMessage, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.request = request
    this.fork = fork
  }

  take(head: Buffer): ServerRuntime.Upgrade | undefined {
    const { socket } = this.request
    const response = NodeUpgrade.responseTo(this.request)
    if (response === undefined) return void socket.destroy()
    const upgrade = NodeUpgrade.upgradeOf(this.request, response, head, (response, rejection) => {
      response.detachSocket(socket)
      this.reject(rejection)
    })
    let isAnswered = false
    return {
      ...upgrade,
      accept: (headers) => {
        isAnswered = true
        return upgrade.accept(headers)
      },
      reject: (rejection) => {
        isAnswered = true
        upgrade.reject(rejection)
      },
      // The socket still is the HTTP server's, and middleware may have an answer of its own.
      abandon: () => isAnswered ? socket.destroy() : upgrade.reject(ServerRuntime.notServing)
    }
  }

  readonly run = (effect: Effect.Effect<void>): void => {
    const fiber = this.fork(effect)
    this.fibers.add(fiber)
    fiber.addObserver(() => {
      this.fibers.delete(fiber)
      this.checkOver()
    })
  }

  // By an ordinary response, which the HTTP server sends. It ends its side then; we do not wait for the other.
  private reject(rejection: ServerRuntime.Response): void {
    const { socket } = this.request
    socket.once("finish", () => socket.destroy())
    this.response = responseOf({ ...rejection, headers: { connection: "close", ...rejection.headers } })
  }

  private checkOver(): void {
    if (this.fibers.size === 0) Deferred.doneUnsafe(this.isOver, Effect.void)
  }

  get ended(): Effect.Effect<HttpServerResponse.HttpServerResponse> {
    // A request that was rejected at once has no fibers.
    this.checkOver()
    return Deferred.await(this.isOver).pipe(
      Effect.onInterrupt(() => {
        // If the client is gone, it is up to the handler what to make of that.
        const stopping = this.request.socket.destroyed ? Effect.void : Fiber.interruptAll(this.fibers)
        return Effect.andThen(stopping, Deferred.await(this.isOver))
      }),
      Effect.map(() => this.response)
    )
  }
}

const responseOf = ({ body, headers, status }: ServerRuntime.Response): HttpServerResponse.HttpServerResponse => {
  const { "set-cookie": setCookie, ...others } = headers
  return HttpServerResponse.text(body, {
    status,
    headers: others as Headers.Input,
    cookies: setCookie === undefined ? undefined : Cookies.fromSetCookie(setCookie)
  })
}
