import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Scope, Stream } from "effect"
import * as Http from "node:http"

// A server that belongs to somebody else, with a page of its own.
const foreignServer = Effect.acquireRelease(
  Effect.callback<Http.Server>((resume) => {
    const http = Http.createServer((_request, response) => response.end("a page"))
    http.listen(0, "127.0.0.1", () => resume(Effect.succeed(http)))
  }),
  (http) =>
    Effect.callback<void>((resume) => {
      http.close(() => resume(Effect.void))
      http.closeAllConnections()
    })
)

const portOf = (http: Http.Server): number => {
  const address = http.address()
  return typeof address === "object" && address !== null ? address.port : 0
}

const urlsOf = (http: Http.Server) => ({
  page: `http://127.0.0.1:${portOf(http)}/`,
  echo: `ws://127.0.0.1:${portOf(http)}/echo`
})

const echo = WebSocketServer.serve(
  (connection) => Stream.runForEach(connection.messages, (message) => connection.send(message)),
  { path: "/echo" }
)

const get = (url: string) => Effect.promise(() => fetch(url).then((response) => response.text()))

const rejectionOf = (url: string) =>
  Effect.gen(function*() {
    const { reason } = yield* Effect.flip(WebSocketClient.connect(url))
    return reason._tag === "UpgradeRejected" ? [reason.status, reason.body] : reason._tag
  })

describe("layerFromHttpServer", () => {
  it.live("serves WebSockets beside the server's own requests", () =>
    Effect.gen(function*() {
      const http = yield* foreignServer
      const { echo: url, page } = urlsOf(http)
      const layer = echo.pipe(Layer.provideMerge(NodeWebSocketServer.layerFromHttpServer(Effect.succeed(http))))
      yield* Effect.gen(function*() {
        const { address } = yield* WebSocketServer.WebSocketServer
        assert.deepStrictEqual(address, { _tag: "Tcp", host: "127.0.0.1", port: portOf(http) })
        const connection = yield* WebSocketClient.connect(url)
        yield* connection.send("hello")
        assert.strictEqual(yield* connection.receive, "hello")
        assert.strictEqual(yield* get(page), "a page")
        assert.strictEqual(yield* get(url.replace("ws:", "http:")), "a page")
        assert.deepStrictEqual(yield* rejectionOf(url.replace("echo", "other")), [404, "not found"])
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer)))

  it.live("applies its options", () =>
    Effect.gen(function*() {
      const http = yield* foreignServer
      const options = { maxMessageBytes: 10, origin: { allow: ["https://example.com"], requireOrigin: true } }
      yield* Layer.build(
        Layer.provide(echo, NodeWebSocketServer.layerFromHttpServer(Effect.succeed(http), options))
      )
      const { echo: url } = urlsOf(http)
      assert.deepStrictEqual(yield* rejectionOf(url), [403, "origin not allowed"])
      const connection = yield* WebSocketClient.connect(url, { headers: { origin: "https://example.com" } })
      yield* connection.send("more than ten")
      assert.strictEqual((yield* connection.closed).code, 1009)
    }).pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer)))

  it.live("is released without the server: its connections are closed with 1001", () =>
    Effect.gen(function*() {
      const http = yield* foreignServer
      const { echo: url, page } = urlsOf(http)
      const scope = yield* Scope.make()
      yield* Layer.build(
        Layer.provide(echo, NodeWebSocketServer.layerFromHttpServer(Effect.succeed(http)))
      ).pipe(Scope.provide(scope))
      const connections = yield* Effect.all([WebSocketClient.connect(url), WebSocketClient.connect(url)])

      yield* Scope.close(scope, Exit.void)

      for (const connection of connections) {
        const { code, initiator, wasClean } = yield* connection.closed
        assert.deepStrictEqual({ code, initiator, wasClean }, { code: 1001, initiator: "Remote", wasClean: true })
      }
      assert.isTrue(http.listening)
      assert.strictEqual(http.listenerCount("upgrade"), 0)
      assert.strictEqual(yield* get(page), "a page")
      assert.deepStrictEqual(yield* rejectionOf(url), [200, "a page"])
    }).pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer)))

  it.live("releases a server that lives in its scope after the connections", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const order: Array<string> = []
      const owned = Effect.tap(foreignServer, (http) => Effect.sync(() => http.on("close", () => order.push("server"))))
      const layer = WebSocketServer.serve(() =>
        Effect.never.pipe(Effect.ensuring(Effect.sync(() => order.push("connection"))))
      ).pipe(Layer.provideMerge(NodeWebSocketServer.layerFromHttpServer(owned)))
      const { address } = yield* Layer.build(layer).pipe(
        Scope.provide(scope),
        Effect.flatMap((context) => Effect.provideContext(WebSocketServer.WebSocketServer, context))
      )
      const port = address._tag === "Tcp" ? address.port : 0
      const connection = yield* WebSocketClient.connect(`ws://127.0.0.1:${port}`)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* connection.closed).code, 1001)
      assert.deepStrictEqual(order, ["connection", "server"])
    }).pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer)))

  it.live("demands a server that listens", () =>
    Effect.gen(function*() {
      const layer = NodeWebSocketServer.layerFromHttpServer(Effect.sync(() => Http.createServer()))
      const exit = yield* Effect.exit(Layer.build(layer))
      assert.isTrue(Exit.isFailure(exit) && String(Cause.squash(exit.cause)).includes("does not listen"))
    }).pipe(Effect.scoped))
})
