/**
 * Metrics: a server that tells what its connections do, in the text format of Prometheus, on the port that they use.
 *
 *     npx node examples/metrics.ts
 *
 * A client talks to the echo server, another one is rejected, and then `/metrics` is asked as Prometheus would do it.
 */
import { ConnectionMetrics, WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import * as NodeWebSocketRoute from "@effect-ws/node/NodeWebSocketRoute"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import { FetchHttpClient, HttpClient, HttpRouter, HttpServer } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { createServer } from "node:http"

const Routes = Layer.mergeAll(
  HttpRouter.add(
    "GET",
    "/echo",
    NodeWebSocketRoute.upgrade((connection) =>
      Stream.runForEach(connection.messages, (message) => connection.send(message))
    )
  ),
  PrometheusMetrics.layerHttp({ path: "/metrics" })
)

const Server = HttpRouter.serve(Routes, { disableListenLog: true, disableLogger: true }).pipe(
  Layer.provideMerge(NodeWebSocketRoute.layerHttpServer(createServer, { host: "127.0.0.1", port: 0 })),
  Layer.provide(ConnectionMetrics.layer)
)

const program = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const host = HttpServer.formatAddress(address).slice("http://".length)

  const scrape = HttpClient.get(`http://${host}/metrics`).pipe(
    Effect.flatMap((response) => response.text),
    Effect.flatMap((text) => Console.log(text.split("\n").filter((line) => line.startsWith("websocket_")).join("\n")))
  )

  yield* Effect.scoped(Effect.gen(function*() {
    const connection = yield* WebSocketClient.connect(`ws://${host}/echo`)
    yield* connection.sendAll(["one", "two", "three"])
    yield* connection.messages.pipe(Stream.take(3), Stream.runDrain)
    yield* Effect.flip(
      WebSocketClient.connect(`ws://${host}/echo`, { headers: { origin: "https://elsewhere.example" } })
    )
    yield* Console.log("while a client is connected:")
    yield* scrape
  }))
  yield* Console.log("after it has left:")
  yield* scrape
})

program.pipe(
  Effect.scoped,
  Effect.provide([Server, NodeWebSocketClient.layer, FetchHttpClient.layer]),
  NodeRuntime.runMain
)
