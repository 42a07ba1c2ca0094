/**
 * A web page whose client is an Effect program over the browser's own WebSocket, without a build step.
 *
 *     npx node examples/page/main.ts [port]
 *
 * The page is at the printed address. Its import map leads to the modules of effect and effect-ws, which are served file by
 * file; the connection goes back to the same server.
 */
import { WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, FileSystem, Layer, Stream } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"
import * as Modules from "./Modules.ts"

const port = Number(process.argv[2] ?? 3000)
const fileOf = (name: string) => fileURLToPath(new URL(name, import.meta.url))

const httpServer = Effect.gen(function*() {
  const files = yield* FileSystem.FileSystem
  const { importMap, routes } = yield* Modules.make
  const page = (yield* files.readFileString(fileOf("page.html"))).replace("IMPORT_MAP", importMap)
  const app = yield* HttpRouter.toHttpEffect(Layer.mergeAll(
    HttpRouter.add(
      "GET",
      "/",
      HttpServerResponse.html(page).pipe(
        HttpServerResponse.setHeader("cache-control", Modules.cacheControl)
      )
    ),
    HttpRouter.add("GET", "/client.js", Effect.orDie(Modules.fromFile(fileOf("client.ts")))),
    routes
  ))
  const server = createServer(yield* NodeHttpServer.makeHandler(app, { scope: yield* Effect.scope }))
  yield* NodeHttpServer.make(() => server, { host: "127.0.0.1", port })
  yield* Effect.addFinalizer(() => Effect.sync(() => server.close().closeAllConnections()))
  return server
})

const Echo = WebSocketServer.serve(
  (connection) => Stream.runForEach(connection.messages, (message) => connection.send(`you said: ${String(message)}`)),
  { path: "/echo" }
)

const announceUrl = Layer.effectDiscard(Effect.gen(function*() {
  const { address } = yield* WebSocketServer.WebSocketServer
  if (address._tag === "Tcp") yield* Console.log(`The page is at http://${address.host}:${address.port}`)
}))

Layer.mergeAll(announceUrl, Echo).pipe(
  Layer.provide(NodeWebSocketServer.layerFromHttpServer(httpServer)),
  Layer.provide(NodeHttpServer.layerHttpServices),
  Layer.launch,
  NodeRuntime.runMain
)
