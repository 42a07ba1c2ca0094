/**
 * Connections as Effect's own sockets, for what is written against those: `effect/rpc` and the like.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import type { CloseEvent } from "./CloseEvent.ts"
import type { Connection } from "./Connection.ts"
import type { Address } from "./Transport.ts"
import * as WebSocketClient from "./WebSocketClient.ts"
import type { CloseError, ConnectError, SendError } from "./WebSocketError.ts"
import * as WebSocketServer from "./WebSocketServer.ts"

/**
 * A connection as a `Socket`.
 *
 * **Details**
 *
 * A message is a frame of the socket. Reading is demand-driven, and a write suspends while the outbound queue is full, as
 * with the connection itself. However the connection ends, reading fails with a `SocketCloseError` that has the code, and
 * so does a write that comes too late. Closing the scope of the reader closes the connection: with 1000 if it succeeded,
 * 1001 if it was interrupted, or else 1011. Writing a `CloseEvent` closes it with that code.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromConnection = (connection: Connection): Socket.Socket => {
  const write = (chunk: Frame): Effect.Effect<void, Socket.SocketError> =>
    Effect.catch(
      writeTo(connection, chunk),
      (error) => isNotOpen(error) ? Effect.flatMap(connection.closed, closed) : Effect.fail(writeFailed(error))
    )
  return Socket.make({
    reader: Effect.as(
      Effect.acquireRelease(Effect.void, (_, exit) => Effect.ignore(connection.close(closeCodeOf(exit)))),
      readerOf(connection)
    ),
    writer: Effect.succeed(writerOf(write))
  })
}

/**
 * A `Socket` that connects to a URL whenever its reader is acquired, and so anew after each end.
 *
 * **Details**
 *
 * A connection that is not established is a `SocketOpenError`, whose cause is the `ConnectError`. A write suspends until
 * there is a connection that is open.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (
  url: string | URL,
  options?: WebSocketClient.ConnectOptions
) => Effect.Effect<Socket.Socket, never, WebSocketClient.WebSocketClient> = Effect.fnUntraced(function*(url, options) {
  const client = yield* WebSocketClient.WebSocketClient
  const isConnected = Latch.makeUnsafe(false)
  let current: Connection | undefined
  const disconnected = (connection: Connection) => {
    if (current !== connection) return
    current = undefined
    isConnected.closeUnsafe()
  }

  const reader: Socket.Socket["reader"] = Effect.gen(function*() {
    const connection = yield* Effect.mapError(client.connect(url, options), openFailed)
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        current = connection
        isConnected.openUnsafe()
      }),
      () => Effect.sync(() => disconnected(connection))
    )
    return readerOf(connection)
  })

  const write = (chunk: Frame): Effect.Effect<void, Socket.SocketError> =>
    Effect.suspend(() => {
      const connection = current
      if (connection === undefined) return isConnected.whenOpen(Effect.suspend(() => write(chunk)))
      return Effect.catch(writeTo(connection, chunk), (error) => {
        if (!isNotOpen(error)) return Effect.fail(writeFailed(error))
        disconnected(connection)
        return write(chunk)
      })
    })

  return Socket.make({ reader, writer: Effect.succeed(writerOf(write)) })
})

/**
 * Provides a `Socket` that connects to a URL, as {@link make} makes it.
 *
 * **Example** (An RPC client)
 *
 * ```ts
 * import { EffectSocket } from "@effect-ws/core"
 * import { NodeWebSocketClient } from "@effect-ws/node"
 * import { Layer } from "effect"
 * import { RpcClient, RpcSerialization } from "effect/rpc"
 *
 * const Protocol = RpcClient.layerProtocolSocket().pipe(
 *   Layer.provide([EffectSocket.layer("ws://127.0.0.1:8080/rpc"), RpcSerialization.layerJson]),
 *   Layer.provide(NodeWebSocketClient.layer)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  url: string | URL,
  options?: WebSocketClient.ConnectOptions
): Layer.Layer<Socket.Socket, never, WebSocketClient.WebSocketClient> => Layer.effect(Socket.Socket, make(url, options))

/**
 * Provides a `SocketServer` whose sockets are the connections that a `WebSocketServer` accepts, at one path or at all.
 *
 * **Details**
 *
 * It serves while `run` runs; before, requests are answered 503 or 404. Handlers are run as `WebSocketServer.serve` runs
 * them. The data of the handshake hook is dropped.
 *
 * **Example** (An RPC server)
 *
 * ```ts
 * import { EffectSocket } from "@effect-ws/core"
 * import { NodeWebSocketServer } from "@effect-ws/node"
 * import { Layer } from "effect"
 * import { RpcSerialization, RpcServer } from "effect/rpc"
 *
 * const Protocol = RpcServer.layerProtocolSocketServer.pipe(
 *   Layer.provide([EffectSocket.layerServer({ path: "/rpc" }), RpcSerialization.layerJson]),
 *   Layer.provide(NodeWebSocketServer.layer({ port: 8080 }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerServer = <RH = never>(
  options: WebSocketServer.ServeOptions<unknown, RH> = {}
): Layer.Layer<SocketServer.SocketServer, never, WebSocketServer.WebSocketServer | RH> =>
  Layer.effect(
    SocketServer.SocketServer,
    Effect.gen(function*() {
      const context = yield* Effect.context<WebSocketServer.WebSocketServer | RH>()
      const server = yield* WebSocketServer.WebSocketServer
      return {
        address: addressOf(server.address),
        run: <R, E, _>(handler: (socket: Socket.Socket) => Effect.Effect<_, E, R>) =>
          WebSocketServer.serve((connection) => handler(fromConnection(connection)), options).pipe(
            Layer.provide(Layer.succeedContext(context)),
            Layer.launch
          ) as Effect.Effect<never, never, R>
      }
    })
  )

type Frame = string | Uint8Array | Socket.CloseEvent

const readerOf = (connection: Connection): Socket.Reader => ({
  pull: connection.pull.pipe(
    Effect.catch((end) => Cause.isDone(end) ? Effect.flatMap(connection.closed, closed) : closed(end.closeEvent))
  ),
  upgrade: Socket.SocketUpgradeError.unsupported
})

const writerOf = (write: (chunk: Frame) => Effect.Effect<void, Socket.SocketError>): Socket.Writer => ({
  write,
  writeAll: (chunks) => Effect.forEach(chunks, write, { discard: true })
})

const writeTo = (connection: Connection, chunk: Frame): Effect.Effect<void, SendError | CloseError> =>
  Socket.isCloseEvent(chunk) ? connection.close(chunk.code, chunk.reason) : connection.send(chunk)

const isNotOpen = (error: SendError | CloseError) => error.reason._tag === "ConnectionNotOpen"

const closed = ({ code, reason }: CloseEvent): Effect.Effect<never, Socket.SocketError> =>
  Effect.fail(
    new Socket.SocketError({
      reason: new Socket.SocketCloseError({ code, closeReason: reason === "" ? undefined : reason })
    })
  )

const writeFailed = (cause: SendError | CloseError) =>
  new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause }) })

const openFailed = (cause: ConnectError) =>
  new Socket.SocketError({
    reason: new Socket.SocketOpenError({
      kind: cause.reason._tag === "ConnectTimeout" ? "Timeout" : "Unknown",
      cause
    })
  })

const closeCodeOf = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit)) return 1000
  return Cause.hasInterruptsOnly(exit.cause) ? 1001 : 1011
}

const addressOf = (address: Address): NetAddress.SocketAddress =>
  address._tag === "Unix"
    ? NetAddress.unixPathAddress(address.path)
    : Result.getOrThrow(NetAddress.inetAddressFromIpString(address.host, address.port))
