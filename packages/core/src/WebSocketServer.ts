/**
 * Serving WebSocket connections.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Connection } from "./Connection.ts"
import type { Accepted, HandshakeRejected, HandshakeRequest } from "./HandshakeRequest.ts"
import type { Message } from "./Message.ts"
import type { Overflow } from "./SendQueue.ts"
import type { Address } from "./Transport.ts"

/**
 * A server that accepts WebSocket connections at one address.
 *
 * **Details**
 *
 * - `address` is where it listens; with port 0, the port that was assigned. `url` is the same as a URL, without a path.
 * - `connections` are those open or closing.
 * - `broadcast` sends a message to every open connection (but `except`), encoded once. A connection whose queue is full
 *   does what `overflow`, or else its own policy, says; where that is to suspend, the broadcast ends when all have room,
 *   and the others have their message already. A connection that fails for lack of room misses the message.
 * - `route` is what {@link serve} is made of.
 *
 * @category services
 * @since 0.1.0
 */
export class WebSocketServer extends Context.Service<WebSocketServer, {
  readonly address: Address
  readonly url: string
  readonly connections: Effect.Effect<ReadonlyArray<Connection>>
  readonly broadcast: (message: Message, options?: BroadcastOptions) => Effect.Effect<void>
  readonly route: (route: Route) => Effect.Effect<void, never, Scope.Scope>
}>()("@effect-ws/core/WebSocketServer/WebSocketServer") {}

/**
 * Who a broadcast leaves out, and what it does where there is no room.
 *
 * @category models
 * @since 0.1.0
 */
export interface BroadcastOptions {
  readonly except?: Connection | undefined
  readonly overflow?: Exclude<Overflow, "suspend" | "fail"> | undefined
}

/**
 * What a server does with the requests of one path.
 *
 * **Details**
 *
 * `run` forks handshakes and the lives of connections into fibers that the route owns.
 *
 * @category models
 * @since 0.1.0
 */
export interface Route {
  readonly path: string | undefined
  readonly subprotocols: ReadonlyArray<string>
  readonly handshake: (request: HandshakeRequest) => Effect.Effect<Accepted<unknown>, HandshakeRejected>
  readonly handler: (connection: Connection, data: unknown) => Effect.Effect<unknown, unknown, Scope.Scope>
  readonly run: (effect: Effect.Effect<void>) => void
}

/**
 * What to serve, and for whom.
 *
 * **Details**
 *
 * - `path` is the exact path that is served; without one, every path that no other `serve` names.
 * - `subprotocols` are those spoken, best first: the first that the client offers is chosen, if the hook chooses none.
 * - `handshake` accepts a request, with data for the handler, or rejects it by failing. A hook that dies is answered 500.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServeOptions<Data, R> {
  readonly path?: string | undefined
  readonly subprotocols?: ReadonlyArray<string> | undefined
  readonly handshake?: ((request: HandshakeRequest) => Effect.Effect<Accepted<Data>, HandshakeRejected, R>) | undefined
}

/**
 * Runs a handler for each connection, in a fiber of its own and in the connection's scope.
 *
 * **Details**
 *
 * When the handler returns, its connection is closed with 1000. When it fails or dies, the connection is closed with 1011
 * and the cause is logged, at debug level if it is only the connection's end; the other connections go on. When the layer
 * is released, no connection is accepted any more, all handlers are interrupted, and their connections are closed with
 * 1001, within the close timeout.
 *
 * **Gotchas**
 *
 * The end of a connection does not end its handler: one that does not read `messages` to their end has to wait for
 * `connection.closed`. The handler's `data` gets its type from the hook, if the hook's parameter has one: define the hook by
 * itself, or annotate its request.
 *
 * **Example** (Echo)
 *
 * ```ts
 * import { WebSocketServer } from "@effect-ws/core"
 * import { Stream } from "effect"
 *
 * const echo = WebSocketServer.serve((connection) =>
 *   Stream.runForEach(connection.messages, (message) => connection.send(message))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const serve: {
  <E, R>(
    handler: (connection: Connection) => Effect.Effect<unknown, E, R>,
    options?: ServeOptions<void, never> & { readonly handshake?: undefined }
  ): Layer.Layer<never, never, WebSocketServer | Exclude<R, Scope.Scope>>
  <E, R, Data, RH>(
    handler: (connection: Connection, data: NoInfer<Data>) => Effect.Effect<unknown, E, R>,
    options: ServeOptions<Data, RH>
  ): Layer.Layer<never, never, WebSocketServer | Exclude<R, Scope.Scope> | RH>
} = <E, R, Data, RH>(
  handler: (connection: Connection, data: Data) => Effect.Effect<unknown, E, R>,
  options: ServeOptions<Data, RH> = {}
): Layer.Layer<never, never, WebSocketServer | Exclude<R, Scope.Scope> | RH> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const server = yield* WebSocketServer
    const fibers = yield* FiberSet.make<void>()
    // Fibers run in the context of the layer, so that handlers need no context of their own.
    const run = yield* FiberSet.runtime(fibers)<Exclude<R, Scope.Scope> | RH>()
    const { handshake } = options
    yield* server.route({
      path: options.path,
      subprotocols: options.subprotocols ?? [],
      handshake: (request) =>
        handshake === undefined
          ? Effect.succeed({ data: undefined })
          : handshake(request) as Effect.Effect<Accepted<Data>, HandshakeRejected>,
      handler: (connection, data) => handler(connection, data as Data) as Effect.Effect<unknown, E, Scope.Scope>,
      run: (effect) => void run(effect)
    })
  }))
