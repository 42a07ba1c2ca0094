import { type Connection, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import { HandshakeRule, TestNetwork, WebSocketProbe } from "@effect-ws/test-kit"
import { type Cause, Context, Effect, Layer, Logger, Queue } from "effect"

/** The response to an opening request. */
export interface Answer {
  readonly status: number
  readonly headers: Handshake.Headers
  readonly body: string
}

/** A server in a network of its own, released with the test; and clients of it. */
export const serve = Effect.fnUntraced(function*(
  serving: Layer.Layer<never, never, WebSocketServer.WebSocketServer>,
  { compression, link, ...server }:
    & TestNetwork.ServerOptions
    & Pick<TestNetwork.NetworkOptions, "compression" | "link"> = {}
) {
  const context = yield* Layer.build(Layer.provideMerge(serving, TestNetwork.layerWith({ compression, link, server })))
  const network = Context.get(context, TestNetwork.TestNetwork)
  const provided = Effect.provideContext(context)
  return {
    network,
    server: Context.get(context, WebSocketServer.WebSocketServer),
    /** A client; the end of the test drops it, and waits for nobody. */
    connect: (target = "/", options?: WebSocketClient.ConnectOptions) =>
      Effect.tap(
        WebSocketClient.connect(`ws://server.test${target}`, options),
        (connection) => Effect.addFinalizer(() => connection.abort)
      ).pipe(provided),
    /** A client that the test plays. */
    probe: (target = "/") => provided(WebSocketProbe.connect(`ws://server.test${target}`)),
    /** What an opening request is answered: one that is right, but for the changes. */
    ask: Effect.fnUntraced(function*(target = "/", headers: HandshakeRule.Changes["headers"] = {}) {
      const request = HandshakeRule.request({ headers: { Host: "server.test", ...headers } })
      const rawHeaders = request.headers.flat()
      const opened = yield* Effect.result(network.dial({
        url: {
          _tag: "WebSocketUrl",
          secure: false,
          socketPath: undefined,
          host: "server.test",
          hostHeader: "server.test",
          port: 80,
          target,
          hasCredentials: false
        },
        headers: Handshake.headersOf(rawHeaders),
        rawHeaders
      }))
      if (opened._tag === "Success") {
        opened.success.transport.destroy()
        return { status: 101, headers: opened.success.headers, body: "" } satisfies Answer
      }
      const { failure } = opened
      if (failure._tag !== "UpgradeRejected") return yield* Effect.die(failure)
      const answer: Answer = failure
      return answer
    })
  }
})

/** Sends one message back. */
export const echoOne = (connection: Connection.Connection) =>
  Effect.flatMap(connection.receive, (message) => connection.send(message))

/** Sends every message back. */
export const echo = WebSocketServer.serve((connection) => Effect.forever(echoOne(connection)))

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
