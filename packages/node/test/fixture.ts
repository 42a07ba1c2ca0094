import { type Connection, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { type Cause, Context, Effect, Layer, Logger, Queue, type Scope } from "effect"

/** A server on a free port, released with the test. */
export const start = Effect.fnUntraced(function*(
  serving: Layer.Layer<never, never, WebSocketServer.WebSocketServer>,
  options: Partial<NodeWebSocketServer.Options> = {}
) {
  const listening = NodeWebSocketServer.layer({ port: 0, ...options })
  const context = yield* Layer.build(Layer.provideMerge(serving, listening))
  const server = Context.get(context, WebSocketServer.WebSocketServer)
  const port = server.address._tag === "Tcp" ? server.address.port : NaN
  return { server, port, url: server.url }
})

/** Sends every message back. */
export const echo = WebSocketServer.serve((connection) => Effect.forever(echoOne(connection)))

/** Sends one message back. */
export const echoOne = (connection: Connection.Connection) =>
  Effect.flatMap(connection.receive, (message) => connection.send(message))

/** Connects; the end of the test drops the connection, and waits for nobody. */
export const connect = (url: string, options?: WebSocketClient.ConnectOptions) =>
  Effect.tap(
    WebSocketClient.connect(url, options),
    (connection) => Effect.addFinalizer(() => connection.abort)
  ).pipe(Effect.provide(NodeWebSocketClient.layer))

/** Provides a client that trusts an authority of the tests, and may have a certificate of its own. */
export const withTlsClient = (tls: NodeWebSocketClient.TlsOptions) =>
  Effect.provide(Layer.orDie(NodeWebSocketClient.layerWith({ tls })))

/** Hands every connection to the test, and holds it until its end. */
export const handOver = Effect.fnUntraced(function*<Data = void>(
  options: WebSocketServer.ServeOptions<Data, never> = {}
) {
  const accepted = yield* Queue.unbounded<Connection.Connection>()
  const serving = WebSocketServer.serve(
    (connection) => Effect.andThen(Queue.offer(accepted, connection), connection.closed),
    options
  )
  return { serving, accept: Queue.take(accepted) }
})

/** Collects what is logged at warning level and above, instead of printing it. */
export const recordLogs = () => {
  const logs: Array<{ readonly message: unknown; readonly cause: Cause.Cause<unknown> }> = []
  const logger = Logger.make<unknown, void>(({ cause, logLevel, message }) => {
    if (logLevel === "Warn" || logLevel === "Error" || logLevel === "Fatal") logs.push({ message, cause })
  })
  return { logs, layer: Logger.layer([logger]) }
}

/** Errors that nobody handled in this process, from now to the end of the test. */
export const unhandledErrors: Effect.Effect<ReadonlyArray<unknown>, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const errors: Array<unknown> = []
      const listener = (error: unknown) => void errors.push(error)
      process.on("uncaughtExceptionMonitor", listener)
      return { errors, listener }
    }),
    ({ listener }) => Effect.sync(() => process.off("uncaughtExceptionMonitor", listener))
  ),
  ({ errors }) => errors
)
