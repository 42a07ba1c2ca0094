/** Effect's own sockets: `HttpServerRequest.upgrade` on its HTTP server. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type * as Socket from "effect/socket/Socket"
import { createServer } from "node:http"
import { createServer as createSecureServer } from "node:https"
import { announce, settings } from "../control.ts"

const writers = new Set<Socket.Writer>()

const app = Effect.gen(function*() {
  const request = yield* HttpServerRequest.HttpServerRequest
  const socket = yield* request.upgrade
  const writer = yield* socket.writer
  const { pull } = yield* socket.reader
  if (!settings.broadcast) {
    while (true) yield* writer.writeAll(yield* pull)
  }
  writers.add(writer)
  yield* Effect.addFinalizer(() => Effect.sync(() => writers.delete(writer)))
  while (true) {
    for (const message of yield* pull) {
      for (const other of writers) yield* other.write(message)
    }
  }
}).pipe(
  Effect.scoped,
  Effect.catchTag("SocketError", () => Effect.succeed(HttpServerResponse.empty()))
)

const Announcement = Layer.effectDiscard(Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  if ("port" in address) announce(address.port)
}))

const { maxMessageBytes, tls } = settings

Layer.mergeAll(HttpServer.serve(app), Announcement).pipe(
  Layer.provide(NodeHttpServer.layer(() => tls === undefined ? createServer() : createSecureServer(tls), {
    port: 0,
    host: "127.0.0.1",
    ...(maxMessageBytes === undefined ? {} : { websocket: { maxPayload: maxMessageBytes } })
  })),
  Layer.launch,
  NodeRuntime.runMain
)
