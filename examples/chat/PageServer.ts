/**
 * The web page, over Effect's HTTP.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, FileSystem } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"

const pageFile = fileURLToPath(new URL("page.html", import.meta.url))

/** An HTTP server that listens on this machine, as long as the scope is open, and serves the page. */
export const pageServer = Effect.fnUntraced(function*(port: number) {
  const files = yield* FileSystem.FileSystem
  const page = HttpServerResponse.html(yield* files.readFileString(pageFile)).pipe(
    HttpServerResponse.setHeader(
      "content-security-policy",
      "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
    )
  )
  const app = yield* HttpRouter.toHttpEffect(HttpRouter.add("GET", "/", page))
  const server = createServer(yield* NodeHttpServer.makeHandler(app, { scope: yield* Effect.scope }))
  yield* NodeHttpServer.make(() => server, { host: "127.0.0.1", port })
  // Browsers keep connections in reserve, and nobody should wait for those.
  yield* Effect.addFinalizer(() => Effect.sync(() => server.close().closeAllConnections()))
  return server
})
