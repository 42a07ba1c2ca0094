/**
 * The web page, over Effect's HTTP: no build step, each module is served by itself.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, FileSystem, Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { createHash } from "node:crypto"
import { createServer } from "node:http"
import { fileURLToPath } from "node:url"
import * as Modules from "../page/Modules.ts"

const fileOf = (name: string) => fileURLToPath(new URL(name, import.meta.url))

const modules = ["page/main.ts", "page/Screen.ts", "Protocol.ts"]

/** An HTTP server that listens on this machine, as long as the scope is open, and serves the page. */
export const pageServer = Effect.fnUntraced(function*(port: number) {
  const files = yield* FileSystem.FileSystem
  const { importMap, routes } = yield* Modules.make
  const html = (yield* files.readFileString(fileOf("page/index.html"))).replace("IMPORT_MAP", importMap)
  const scripts = `'self' 'sha256-${createHash("sha256").update(importMap).digest("base64")}'`
  const page = HttpServerResponse.html(html).pipe(
    HttpServerResponse.setHeaders({
      "cache-control": Modules.cacheControl,
      "content-security-policy":
        `default-src 'none'; style-src 'unsafe-inline'; script-src ${scripts}; connect-src 'self'; img-src data:`
    })
  )
  const app = yield* HttpRouter.toHttpEffect(Layer.mergeAll(
    HttpRouter.add("GET", "/", page),
    ...modules.map((name) => HttpRouter.add("GET", `/${name}`, Effect.orDie(Modules.fromFile(fileOf(name))))),
    routes
  ))
  const server = createServer(yield* NodeHttpServer.makeHandler(app, { scope: yield* Effect.scope }))
  yield* NodeHttpServer.make(() => server, { host: "127.0.0.1", port })
  // Browsers keep connections in reserve, and nobody should wait for those.
  yield* Effect.addFinalizer(() => Effect.sync(() => server.close().closeAllConnections()))
  return server
})
