/**
 * Beside Express: two WebSocket servers are mounted on the http.Server of an Express application, each with options of its
 * own, and leave all else to it.
 *
 *     npx node examples/express.ts
 */
import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import express from "express"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"

const app = express().get("/", (_request, response) => void response.send("a page of Express"))

// Listens before the servers are mounted, and stops listening after they are gone.
const http = Effect.acquireRelease(
  Effect.callback<Http.Server>((resume) => {
    const server = Http.createServer(app).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
)

const Echo = WebSocketServer.serve(
  (connection) => Stream.runForEach(connection.messages, (message) => connection.send(message)),
  { path: "/echo" }
)

const Time = WebSocketServer.serve((connection) => connection.send("high time"), { path: "/time" })

const mount = (server: Http.Server) =>
  Layer.merge(
    Layer.provide(Echo, NodeWebSocketServer.layerFromHttpServer(Effect.succeed(server), { maxMessageBytes: 1024 })),
    Layer.provide(Time, NodeWebSocketServer.layerFromHttpServer(Effect.succeed(server), { heartbeat: false }))
  )

const program = Effect.gen(function*() {
  const server = yield* http
  yield* Layer.build(mount(server))
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`

  const page = yield* Effect.promise(() => fetch(`http://${host}/`).then((response) => response.text()))
  yield* Console.log(`GET /: ${page}`)

  const echo = yield* WebSocketClient.connect(`ws://${host}/echo`)
  yield* echo.send("hello")
  yield* Console.log(`/echo: ${yield* echo.receive}`)
  yield* echo.send(new Uint8Array(1025))
  yield* Console.log(`/echo takes no more than 1 KiB: ${(yield* echo.closed).code}`)

  const time = yield* WebSocketClient.connect(`ws://${host}/time`)
  yield* Console.log(`/time: ${yield* time.receive}`)

  const error = yield* Effect.flip(WebSocketClient.connect(`ws://${host}/other`))
  yield* Console.log(`/other: ${error.message}`)
})

program.pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer), NodeRuntime.runMain)
