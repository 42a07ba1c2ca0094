import { type Connection, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Scope, Stream } from "effect"
import express from "express"
import { fastify } from "fastify"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import * as Ws from "ws"
import { connect } from "./fixture.ts"
import { closeOf, connectRaw, openingRequest, type RawPeer, response, upgradeRaw } from "./rawPeer.ts"

const listen = (handler: Http.RequestListener) =>
  Effect.acquireRelease(
    Effect.callback<Http.Server>((resume) => {
      const http = Http.createServer(handler).listen(0, "127.0.0.1", () => resume(Effect.succeed(http)))
    }),
    (http) =>
      Effect.callback<void>((resume) => {
        http.close(() => resume(Effect.void))
        http.closeAllConnections()
      })
  )

const portOf = (http: Http.Server) => (http.address() as AddressInfo).port

/** Echoes, with its name before each message. */
const named = (name: string, path?: string) =>
  WebSocketServer.serve(
    (connection) => Stream.runForEach(connection.messages, (message) => connection.send(`${name}: ${String(message)}`)),
    { path }
  )

const mount = (
  http: Http.Server,
  serving: Layer.Layer<never, never, WebSocketServer.WebSocketServer>,
  options?: NodeWebSocketServer.MountOptions
) => Layer.build(Layer.provide(serving, NodeWebSocketServer.layerFromHttpServer(Effect.succeed(http), options)))

const ask = Effect.fnUntraced(function*(connection: Connection.Connection) {
  yield* connection.send("?")
  return yield* connection.receive
})

/** Asks with a Host header of one's own. */
const request = Effect.fnUntraced(function*(port: number, target: string, host = "127.0.0.1") {
  const peer = yield* connectRaw(port)
  yield* peer.send(openingRequest({ target, headers: { Host: host } }))
  return peer
})

const statusOf = (peer: RawPeer) => Effect.map(response(peer), ({ status }) => status)

/** A foreign `upgrade` listener, of the `ws` package, that serves one path. */
const foreign = (http: Http.Server, path: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const server = new Ws.WebSocketServer({ noServer: true })
      server.on("connection", (socket) => socket.on("message", (data) => socket.send(`foreign: ${String(data)}`)))
      http.on("upgrade", (request, socket, head) => {
        if (request.url === path) server.handleUpgrade(request, socket, head, (ws) => server.emit("connection", ws))
      })
      return server
    }),
    (server) => Effect.sync(() => server.clients.forEach((socket) => socket.terminate()))
  )

describe("mounting on a Fastify application", () => {
  it.live("a page and a WebSocket share its server, and each gets what is its own", () =>
    Effect.gen(function*() {
      const app = yield* Effect.acquireRelease(
        Effect.sync(() => fastify().get("/page", (_request, reply) => reply.send("a page"))),
        (app) => Effect.promise(() => app.close())
      )
      yield* Effect.promise(() => app.listen({ port: 0, host: "127.0.0.1" }))
      yield* mount(app.server, named("one", "/one"))
      const host = `127.0.0.1:${portOf(app.server)}`
      assert.strictEqual(yield* ask(yield* connect(`ws://${host}/one`)), "one: ?")
      const page = yield* Effect.promise(() => fetch(`http://${host}/page`).then((response) => response.text()))
      assert.strictEqual(page, "a page")
      const peer = yield* request(portOf(app.server), "/other")
      assert.strictEqual(yield* statusOf(peer), 404)
    }).pipe(Effect.scoped))
})

describe("mounting on an Express application", () => {
  it.live("two mounts and a foreign listener share its port, each with what is its own", () =>
    Effect.gen(function*() {
      const app = express()
      app.get("/page", (_request, response) => void response.send("a page"))
      const http = yield* listen(app)
      const url = `ws://127.0.0.1:${portOf(http)}`
      yield* mount(http, named("one", "/one"), { maxMessageBytes: 10 })
      yield* foreign(http, "/foreign")
      yield* mount(http, Layer.merge(named("two", "/two"), named("three", "/three")))
      for (const name of ["one", "two", "three", "foreign"]) {
        assert.strictEqual(yield* ask(yield* connect(`${url}/${name}`)), `${name}: ?`)
      }
      const limited = yield* connect(`${url}/one`)
      yield* limited.send("more than ten")
      assert.strictEqual((yield* limited.closed).code, 1009)
      const page = yield* Effect.promise(() => fetch(`http://127.0.0.1:${portOf(http)}/page`).then((r) => r.text()))
      assert.strictEqual(page, "a page")
    }).pipe(Effect.scoped))

  it.live("a path that no mount serves is left to other listeners", () =>
    Effect.gen(function*() {
      const http = yield* listen(express())
      yield* mount(http, named("one", "/one"))
      const seen = yield* Queue.unbounded<Http.IncomingMessage>()
      http.on("upgrade", (request: Http.IncomingMessage, socket) => {
        if (request.url === "/one") return
        Queue.offerUnsafe(seen, request)
        socket.end("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n")
      })
      const peer = yield* request(portOf(http), "/other")
      // Nothing but the other's answer.
      assert.strictEqual((yield* peer.rest).toString(), "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n")
      assert.strictEqual((yield* Queue.take(seen)).url, "/other")
    }).pipe(Effect.scoped))

  it.live("a path that nobody serves is answered 404, once", () =>
    Effect.gen(function*() {
      const http = yield* listen(express())
      yield* mount(http, named("one", "/one"))
      yield* mount(http, named("two", "/two"))
      const peer = yield* request(portOf(http), "/other")
      assert.strictEqual(yield* statusOf(peer), 404)
      assert.strictEqual((yield* peer.rest).length, 0)
    }).pipe(Effect.scoped))

  it.live("a mount that serves every path takes what the others do not name, whoever came first", () =>
    Effect.gen(function*() {
      const http = yield* listen(express())
      const url = `ws://127.0.0.1:${portOf(http)}`
      yield* mount(http, named("any"))
      yield* mount(http, named("one", "/one"))
      assert.strictEqual(yield* ask(yield* connect(`${url}/one`)), "one: ?")
      assert.strictEqual(yield* ask(yield* connect(`${url}/two`)), "any: ?")
    }).pipe(Effect.scoped))

  it.live("one mount is released without the other", () =>
    Effect.gen(function*() {
      const http = yield* listen(express())
      const port = portOf(http)
      const scope = yield* Scope.make()
      yield* Scope.provide(mount(http, named("one", "/one")), scope)
      yield* mount(http, named("two", "/two"))
      const leaving = yield* upgradeRaw(port, "/one")
      const staying = yield* connect(`ws://127.0.0.1:${port}/two`)
      const stopping = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      assert.strictEqual(closeOf(yield* leaving.frame)?.code, 1001)
      yield* leaving.reset
      yield* Fiber.join(stopping)
      assert.strictEqual(yield* ask(staying), "two: ?")
      assert.strictEqual(yield* statusOf(yield* request(port, "/one")), 404)
    }).pipe(Effect.scoped))
})

describe("virtual hosts", () => {
  it.live("one port serves several servers by the name in the Host header (RFC 7230, section 5.4)", () =>
    Effect.gen(function*() {
      const http = yield* listen((_request, response) => response.end())
      const port = portOf(http)
      const tell = (name: string, path?: string) =>
        WebSocketServer.serve((connection) => connection.send(name), { path })
      yield* mount(http, tell("default"))
      yield* mount(http, tell("a"), { hosts: ["a.example", "www.a.example"] })
      yield* mount(http, tell("b", "/b"), { hosts: ["b.example"] })
      const expected = [
        ["a.example", "/", "a"],
        ["WWW.A.example:8080", "/b", "a"],
        ["b.example", "/b", "b"],
        ["c.example", "/b", "default"],
        ["[::1]:80", "/", "default"]
      ] as const
      for (const [host, target, name] of expected) {
        const peer = yield* request(port, target, host)
        assert.match(yield* peer.head, /^HTTP\/1\.1 101 /)
        assert.strictEqual((yield* peer.frame).payload.toString(), name, `${host}${target}`)
      }
      // The paths of the host that was named are all there are.
      assert.strictEqual(yield* statusOf(yield* request(port, "/", "b.example")), 404)
    }).pipe(Effect.scoped))

  it.live("a host that nobody goes by is answered 404", () =>
    Effect.gen(function*() {
      const http = yield* listen((_request, response) => response.end())
      yield* mount(http, named("a"), { hosts: ["a.example"] })
      assert.strictEqual(yield* statusOf(yield* request(portOf(http), "/", "c.example")), 404)
    }).pipe(Effect.scoped))
})

describe("several servers in one program", () => {
  it.live("have their own handlers, options, connections and ends", () =>
    Effect.gen(function*() {
      const start = Effect.fnUntraced(function*(name: string, options: Partial<NodeWebSocketServer.Options>) {
        const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
        const started = yield* Deferred.make<WebSocketServer.WebSocketServer["Service"]>()
        yield* Layer.mergeAll(
          named(name),
          Layer.effectDiscard(
            Effect.flatMap(WebSocketServer.WebSocketServer, (server) => Deferred.succeed(started, server))
          )
        ).pipe(
          Layer.provide(NodeWebSocketServer.layer({ port: 0, ...options })),
          Layer.build,
          Scope.provide(scope)
        )
        return { server: yield* Deferred.await(started), stop: Scope.close(scope, Exit.void) }
      })
      const one = yield* start("one", { maxMessageBytes: 10 })
      const two = yield* start("two", { origin: { allow: ["https://example.com"], requireOrigin: true } })

      const first = yield* connect(one.server.url)
      const second = yield* connect(two.server.url, { headers: { origin: "https://example.com" } })
      assert.strictEqual(yield* ask(first), "one: ?")
      assert.strictEqual(yield* ask(second), "two: ?")
      const { reason } = yield* Effect.flip(connect(two.server.url))
      assert.deepInclude(reason, { _tag: "UpgradeRejected", status: 403 })
      yield* second.send("more than ten")
      assert.strictEqual(yield* second.receive, "two: more than ten")
      yield* one.server.broadcast("to one")
      assert.strictEqual(yield* first.receive, "to one")

      yield* one.stop
      assert.strictEqual((yield* first.closed).code, 1001)
      assert.strictEqual(yield* ask(second), "two: ?")
      assert.strictEqual((yield* two.server.connections).length, 1)
    }).pipe(Effect.scoped))
})
