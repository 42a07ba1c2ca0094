import { type Connection, HandshakeRequest, type ServerRuntime } from "@effect-ws/core"
import * as NodeWebSocketRoute from "@effect-ws/node/NodeWebSocketRoute"
import { assert, describe, it } from "@effect/vitest"
import { Context, Data, Deferred, Effect, Exit, Fiber, Layer, Option, Queue, Scope, Stream } from "effect"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"
import * as Ws from "ws"
import { connect, echoOne, recordLogs, unhandledErrors } from "./fixture.ts"
import { closeFrame, closeOf, connectRaw, frame, openingRequest, response, upgradeRaw } from "./rawPeer.ts"

class Greeting extends Context.Service<Greeting, string>()("test/Greeting") {}
class User extends Context.Service<User, { readonly name: string }>()("test/User") {}

/** Names the user by a header, for the routes that ask for one, and marks every response. */
const Auth = HttpRouter.middleware<{ provides: User }>()(
  Effect.succeed((app) =>
    Effect.gen(function*() {
      const { headers } = yield* HttpServerRequest.HttpServerRequest
      const response = yield* Effect.provideService(app, User, { name: headers["x-user"] ?? "nobody" })
      return HttpServerResponse.setHeader(response, "x-middleware", "seen")
    })
  )
)

const greet = NodeWebSocketRoute.upgrade((connection) =>
  Effect.gen(function*() {
    const user = yield* User
    const greeting = yield* Greeting
    const { room } = yield* HttpRouter.params
    const request = yield* HttpServerRequest.HttpServerRequest
    yield* connection.send(`${greeting} ${user.name} in ${room}, ${request.headers["user-agent"]}`)
    return yield* Effect.forever(echoOne(connection))
  })
)

const echo = NodeWebSocketRoute.upgrade((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
)

/** An application on a free port; `stop` shuts it down. */
const start = Effect.fnUntraced(function*(
  routes: Layer.Layer<
    never,
    never,
    HttpRouter.HttpRouter | HttpRouter.Request<"Requires", NodeWebSocketRoute.WebSocketUpgrades>
  >,
  websocket?: ServerRuntime.ServerOptions
) {
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  const app = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true })
  const context = yield* Layer.build(
    Layer.provideMerge(app, NodeWebSocketRoute.layerHttpServer(createServer, { port: 0, host: "127.0.0.1", websocket }))
  ).pipe(Scope.provide(scope))
  const { address } = Context.get(context, HttpServer.HttpServer)
  const port = "port" in address ? Number(address.port) : NaN
  return { port, url: `ws://127.0.0.1:${port}`, http: `http://127.0.0.1:${port}`, stop: Scope.close(scope, Exit.void) }
})

/** A route whose connections the test gets; its handlers wait for the end. */
const handOver = Effect.gen(function*() {
  const accepted = yield* Queue.unbounded<Connection.Connection>()
  const route = NodeWebSocketRoute.upgrade((connection) =>
    Effect.andThen(Queue.offer(accepted, connection), connection.closed)
  )
  return { route, accept: Queue.take(accepted) }
})

const get = (url: string) => Effect.promise(() => fetch(url).then((response) => response.text()))

describe("a WebSocket route of Effect's HTTP server", () => {
  it.live("shares the port with HTTP, and its handler has the application's services, middleware and request", () =>
    Effect.gen(function*() {
      const { http, url } = yield* start(
        Layer.mergeAll(
          HttpRouter.add("GET", "/", HttpServerResponse.text("a page")),
          HttpRouter.add("GET", "/rooms/:room", greet).pipe(Layer.provide(Auth.layer))
        ).pipe(
          HttpRouter.provideRequest(Layer.succeed(Greeting, "Hello"))
        )
      )
      assert.strictEqual(yield* get(http), "a page")
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => new Ws.WebSocket(`${url}/rooms/7`, { headers: { "x-user": "Ada", "user-agent": "ws" } })),
        (socket) => Effect.sync(() => socket.terminate())
      )
      const messages = yield* Queue.unbounded<string>()
      socket.on("message", (data) => Queue.offerUnsafe(messages, data.toString()))
      assert.strictEqual(yield* Queue.take(messages), "Hello Ada in 7, ws")
      socket.send("and back")
      assert.strictEqual(yield* Queue.take(messages), "and back")
      assert.strictEqual(yield* get(http), "a page")
      const code = yield* Effect.callback<number>((resume) => {
        socket.on("close", (code) => resume(Effect.succeed(code)))
        socket.close(4001)
      })
      assert.strictEqual(code, 4001)
    }).pipe(Effect.scoped))

  it.live("loses no frame that comes with the request, and none that follows in pieces", () =>
    Effect.gen(function*() {
      const { port } = yield* start(HttpRouter.add("GET", "/echo", echo))
      const peer = yield* connectRaw(port)
      const last = frame("text", "three")
      yield* peer.send(
        openingRequest({ target: "/echo" }),
        frame("text", "one"),
        frame("text", "two"),
        last.subarray(0, 5)
      )
      assert.match(yield* peer.head, /^HTTP\/1.1 101 /)
      assert.strictEqual((yield* peer.frame).payload.toString(), "one")
      assert.strictEqual((yield* peer.frame).payload.toString(), "two")
      yield* peer.send(last.subarray(5))
      assert.strictEqual((yield* peer.frame).payload.toString(), "three")
    }).pipe(Effect.scoped))

  it.live("rejects by an ordinary response, which passes through middleware", () =>
    Effect.gen(function*() {
      const rejecting = NodeWebSocketRoute.upgrade(() => Effect.void, {
        handshake: (): Effect.Effect<{ readonly data: void }, HandshakeRequest.HandshakeRejected> =>
          new HandshakeRequest.HandshakeRejected({
            status: 401,
            headers: { "www-authenticate": "Bearer", "set-cookie": ["a=1", "b=2"] },
            body: "who are you?"
          })
      })
      const { port } = yield* start(HttpRouter.add("GET", "/", rejecting).pipe(Layer.provide(Auth.layer)))
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest())
      const head = yield* peer.head
      assert.match(head, /^HTTP\/1.1 401 Unauthorized\r\n/)
      for (const line of ["www-authenticate: Bearer", "x-middleware: seen", "connection: close"]) {
        assert.include(head.toLowerCase(), `\r\n${line}\r\n`.toLowerCase())
      }
      assert.deepStrictEqual(head.match(/(?<=set-cookie: )\S+/gi), ["a=1", "b=2"])
      // The end comes from the server, whatever the client does.
      assert.strictEqual((yield* peer.rest).toString(), "who are you?")
    }).pipe(Effect.scoped))

  it.live.each(
    [
      ["plain HTTP (RFC 7231, section 6.5.15)", { Upgrade: undefined, Connection: undefined }, 426],
      ["another version (RFC 6455, section 4.4)", { "Sec-WebSocket-Version": "8" }, 426],
      ["a key that is none (section 4.2.1)", { "Sec-WebSocket-Key": "short" }, 400],
      ["a page of another origin (section 4.2.2)", { Origin: "https://example.com" }, 403]
    ] as const
  )("answers %s", ([, headers, status]) =>
    Effect.gen(function*() {
      const { port } = yield* start(HttpRouter.add("GET", "/", echo))
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest({ headers }))
      assert.strictEqual((yield* response(peer)).status, status)
    }).pipe(Effect.scoped))

  it.live("answers 500 for a defect of the hook, and logs it", () => {
    const { layer, logs } = recordLogs()
    return Effect.gen(function*() {
      const broken = NodeWebSocketRoute.upgrade(() => Effect.void, { handshake: () => Effect.die("a defect") })
      const { port } = yield* start(HttpRouter.add("GET", "/", broken))
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest())
      assert.strictEqual((yield* response(peer)).status, 500)
      assert.deepStrictEqual(logs.map(({ message }) => message), [["WebSocket handshake hook failed"]])
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.live("takes the hook's subprotocol, headers and data", () =>
    Effect.gen(function*() {
      const route = NodeWebSocketRoute.upgrade(
        (connection, data: { readonly name: string }) => connection.send(`${data.name} ${connection.request.url}`),
        {
          subprotocols: ["v1"],
          handshake: ({ query }) =>
            Effect.map(Greeting, (greeting) => ({
              subprotocol: "v2",
              headers: { "x-served-by": greeting },
              data: { name: query.get("name") ?? "" }
            }))
        }
      )
      const { url } = yield* start(
        HttpRouter.add("GET", "/", route).pipe(HttpRouter.provideRequest(Layer.succeed(Greeting, "Hello")))
      )
      const connection = yield* connect(`${url}/?name=Ada`, { subprotocols: ["v1", "v2"] })
      assert.deepStrictEqual(connection.subprotocol, Option.some("v2"))
      assert.strictEqual(connection.response.headers["x-served-by"], "Hello")
      assert.strictEqual(yield* connection.receive, "Ada /?name=Ada")
      assert.strictEqual((yield* connection.closed).code, 1000)
    }).pipe(Effect.scoped))

  it.live("closes with 1011 when the handler fails, which is logged, and the others go on", () => {
    const { layer, logs } = recordLogs()
    class HandlerFailed extends Data.TaggedError("HandlerFailed") {}
    return Effect.gen(function*() {
      const failing = NodeWebSocketRoute.upgrade((connection) =>
        Effect.andThen(connection.receive, new HandlerFailed())
      )
      const { stop, url } = yield* start(HttpRouter.add("GET", "/", failing))
      const [one, other] = yield* Effect.all([connect(url), connect(url)])
      yield* one.send("fail")
      assert.strictEqual((yield* one.closed).code, 1011)
      assert.strictEqual(yield* other.state, "Open")
      yield* stop
      assert.deepStrictEqual(logs.map(({ message }) => message), [["WebSocket handler failed"]])
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.live("leaves it to the handler what to make of a client that resets", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const seen = yield* Deferred.make<string>()
      const route = NodeWebSocketRoute.upgrade((connection) =>
        Effect.gen(function*() {
          const { reason } = yield* Effect.flip(Stream.runDrain(connection.messages))
          yield* Effect.yieldNow
          yield* Deferred.succeed(seen, `${reason._tag}, and goes on`)
        }).pipe(Effect.onInterrupt(() => Deferred.succeed(seen, "interrupted")))
      )
      const { port } = yield* start(HttpRouter.add("GET", "/", route))
      const peer = yield* upgradeRaw(port)
      yield* peer.reset
      assert.strictEqual(yield* Deferred.await(seen), "ConnectionLost, and goes on")
      assert.deepStrictEqual(errors, [])
    }).pipe(Effect.scoped))

  it.live("interrupts the hook of a client that resets, and the server goes on", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const entered = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const route = NodeWebSocketRoute.upgrade(() => Effect.void, {
        handshake: (): Effect.Effect<{ readonly data: void }> =>
          Deferred.succeed(entered, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
      })
      const { port } = yield* start(
        Layer.merge(HttpRouter.add("GET", "/", route), HttpRouter.add("GET", "/echo", echo))
      )
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest())
      yield* Deferred.await(entered)
      yield* peer.reset
      yield* Deferred.await(interrupted)
      yield* upgradeRaw(port, "/echo")
      assert.deepStrictEqual(errors, [])
    }).pipe(Effect.scoped))

  it.live("closes with 1001 when middleware interrupts it", () =>
    Effect.gen(function*() {
      const cut = yield* Deferred.make<void>()
      const Cutting = HttpRouter.middleware(
        Effect.succeed((app) =>
          Effect.raceFirst(app, Effect.as(Deferred.await(cut), HttpServerResponse.empty({ status: 503 })))
        )
      )
      const { accept, route } = yield* handOver
      const { port } = yield* start(HttpRouter.add("GET", "/", route).pipe(Layer.provide(Cutting.layer)))
      const peer = yield* upgradeRaw(port)
      const connection = yield* accept
      yield* Deferred.succeed(cut, undefined)
      assert.strictEqual(closeOf(yield* peer.frame)?.code, 1001)
      yield* peer.send(closeFrame(1001))
      yield* peer.end
      // Nothing but the Close: the middleware's response has nowhere to go.
      assert.strictEqual((yield* peer.rest).length, 0)
      assert.strictEqual((yield* connection.closed).code, 1001)
    }).pipe(Effect.scoped))

  it.live("leaves the answer to middleware that interrupts the hook", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const undecided = NodeWebSocketRoute.upgrade(() => Effect.void, {
        handshake: (): Effect.Effect<{ readonly data: void }> =>
          Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
      })
      const Impatient = HttpRouter.middleware(
        Effect.succeed((app) =>
          Effect.timeoutOrElse(app, {
            duration: "20 millis",
            orElse: () => Effect.succeed(HttpServerResponse.text("too late", { status: 504 }))
          })
        )
      )
      const { port } = yield* start(HttpRouter.add("GET", "/", undecided).pipe(Layer.provide(Impatient.layer)))
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest())
      const { body, status } = yield* response(peer)
      assert.deepStrictEqual([status, body], [504, "too late"])
      yield* Deferred.await(interrupted)
      assert.strictEqual((yield* peer.rest).length, 0)
    }).pipe(Effect.scoped))

  it.live("is shown to middleware as a response with status 101, when it is over", () =>
    Effect.gen(function*() {
      const status = yield* Deferred.make<number>()
      const Watching = HttpRouter.middleware(
        Effect.succeed((app) => Effect.tap(app, (response) => Deferred.succeed(status, response.status)))
      )
      const { url } = yield* start(HttpRouter.add("GET", "/", echo).pipe(Layer.provide(Watching.layer)))
      const connection = yield* connect(url)
      yield* connection.close()
      assert.strictEqual(yield* Deferred.await(status), 101)
    }).pipe(Effect.scoped))

  it.live("needs no router", () =>
    Effect.gen(function*() {
      const app = Effect.flatMap(
        HttpServerRequest.HttpServerRequest,
        ({ url }) => url === "/echo" ? echo : Effect.succeed(HttpServerResponse.text("a page"))
      )
      const scope = yield* Scope.make()
      const context = yield* Layer.build(
        Layer.provideMerge(
          HttpServer.serve(app),
          NodeWebSocketRoute.layerHttpServer(createServer, { port: 0, host: "127.0.0.1" })
        )
      ).pipe(Scope.provide(scope))
      const { address } = Context.get(context, HttpServer.HttpServer)
      const port = "port" in address ? Number(address.port) : NaN
      assert.strictEqual(yield* get(`http://127.0.0.1:${port}`), "a page")
      const connection = yield* connect(`ws://127.0.0.1:${port}/echo`)
      yield* connection.send("hello")
      assert.strictEqual(yield* connection.receive, "hello")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* connection.closed).code, 1001)
    }).pipe(Effect.scoped))

  it.live("applies the options of its server", () =>
    Effect.gen(function*() {
      const { url } = yield* start(HttpRouter.add("GET", "/", echo), { maxMessageBytes: 10 })
      const connection = yield* connect(url)
      yield* connection.send("more than ten")
      assert.strictEqual((yield* connection.closed).code, 1009)
    }).pipe(Effect.scoped))
})

describe("shutting down Effect's HTTP server with WebSocket routes", () => {
  it.live("tells every client 1001, waits for them, and then for HTTP requests", () =>
    Effect.gen(function*() {
      const requested = yield* Deferred.make<void>()
      const proceed = yield* Deferred.make<void>()
      const { http, port, stop, url } = yield* start(
        Layer.mergeAll(
          HttpRouter.add("GET", "/", echo),
          HttpRouter.add(
            "GET",
            "/slow",
            Deferred.succeed(requested, undefined).pipe(
              Effect.andThen(Deferred.await(proceed)),
              Effect.as(HttpServerResponse.text("done"))
            )
          )
        ),
        { closeTimeout: "1 minute" }
      )
      const page = yield* Effect.forkChild(get(`${http}/slow`))
      yield* Deferred.await(requested)
      const client = yield* connect(url)
      const peer = yield* upgradeRaw(port)
      const stopping = yield* Effect.forkChild(stop)
      assert.strictEqual(closeOf(yield* peer.frame)?.code, 1001)
      assert.strictEqual((yield* client.closed).code, 1001)
      assert.isUndefined(stopping.pollUnsafe())
      yield* peer.send(closeFrame(1001))
      yield* peer.end
      yield* peer.rest
      yield* Deferred.succeed(proceed, undefined)
      assert.strictEqual(yield* Fiber.join(page), "done")
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.live("answers 503 while it waits, also where a hook has not decided", () =>
    Effect.gen(function*() {
      const entered = yield* Deferred.make<void>()
      const undecided = NodeWebSocketRoute.upgrade(() => Effect.void, {
        handshake: (): Effect.Effect<{ readonly data: void }> =>
          Effect.andThen(Deferred.succeed(entered, undefined), Effect.never)
      })
      const { port, stop } = yield* start(
        Layer.merge(HttpRouter.add("GET", "/", echo), HttpRouter.add("GET", "/undecided", undecided)),
        { closeTimeout: "1 minute" }
      )
      const staying = yield* upgradeRaw(port)
      const late = yield* connectRaw(port)
      const deciding = yield* connectRaw(port)
      yield* deciding.send(openingRequest({ target: "/undecided" }))
      yield* Deferred.await(entered)
      const stopping = yield* Effect.forkChild(stop)
      assert.strictEqual(closeOf(yield* staying.frame)?.code, 1001)
      assert.strictEqual((yield* response(deciding)).status, 503)
      yield* late.send(openingRequest())
      assert.strictEqual((yield* response(late)).status, 503)
      yield* staying.reset
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.live("waits for silent peers no longer than the close timeout", () =>
    Effect.gen(function*() {
      const { port, stop } = yield* start(HttpRouter.add("GET", "/", echo), { closeTimeout: "100 millis" })
      const peers = yield* Effect.replicateEffect(upgradeRaw(port), 10)
      yield* Effect.timeout(stop, "5 seconds")
      for (const peer of peers) {
        assert.strictEqual(closeOf(yield* peer.frame)?.code, 1001)
        assert.strictEqual((yield* peer.rest).length, 0)
      }
    }).pipe(Effect.scoped))
})
