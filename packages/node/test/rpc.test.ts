import { EffectSocket, type WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import * as NodeWebSocketRoute from "@effect-ws/node/NodeWebSocketRoute"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Schedule, Schema, Scope, Stream } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { Rpc, RpcClient, RpcClientError, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"
import { SocketServer } from "effect/socket"
import { createServer } from "node:http"
import { unhandledErrors } from "./fixture.ts"
import { closeOf, connectRaw, frame, listenRaw, openingRequest, response, upgradeRaw } from "./rawPeer.ts"

class Unknown extends Schema.TaggedError<Unknown>("test/Unknown")("Unknown", { name: Schema.String }) {}

const Calls = RpcGroup.make(
  Rpc.make("greet", { payload: { name: Schema.String }, success: Schema.String, error: Unknown }),
  Rpc.make("count", {
    payload: { upTo: Schema.Int, padding: Schema.Int },
    success: Schema.Struct({ n: Schema.Int, padding: Schema.String }),
    stream: true
  }),
  Rpc.make("upload", { payload: { text: Schema.String }, success: Schema.Int }),
  Rpc.make("forever", { success: Schema.Int, stream: true })
)

/** A server, what became of its endless stream, and how far it counted. */
const start = Effect.fnUntraced(function*(options: Partial<NodeWebSocketServer.Options> = {}) {
  const began = yield* Deferred.make<void>()
  const ended = yield* Deferred.make<Exit.Exit<void>>()
  const produced = { count: 0, inAll: 0 }
  const handlers = Calls.toLayer({
    greet: ({ name }) => name === "" ? new Unknown({ name }) : Effect.succeed(`Hello ${name}`),
    count: ({ padding, upTo }) =>
      Stream.range(1, upTo).pipe(
        Stream.rechunk(1),
        Stream.map((n) => {
          produced.count = n
          produced.inAll++
          return { n, padding: "x".repeat(padding) }
        })
      ),
    upload: ({ text }) => Effect.succeed(text.length),
    forever: () =>
      Stream.concat(Stream.fromEffect(Effect.as(Deferred.succeed(began, undefined), 1)), Stream.never).pipe(
        Stream.onExit((exit) => Deferred.succeed(ended, Exit.asVoid(exit) as Exit.Exit<void>))
      )
  })
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  const context = yield* RpcServer.layer(Calls).pipe(
    Layer.provide([handlers, RpcServer.layerProtocolSocketServer]),
    Layer.provideMerge(EffectSocket.layerServer({ path: "/rpc" })),
    Layer.provide(RpcSerialization.layerJson),
    Layer.provideMerge(NodeWebSocketServer.layer({ port: 0, ...options })),
    Layer.build,
    Scope.provide(scope)
  )
  const server = Context.get(context, WebSocketServer.WebSocketServer)
  const socketServer = Context.get(context, SocketServer.SocketServer)
  const port = server.address._tag === "Tcp" ? server.address.port : NaN
  const stop = Scope.close(scope, Exit.void)
  return { began, ended, port, produced, server, socketServer, stop, url: `${server.url}/rpc` }
})

const client = Effect.fnUntraced(function*(
  url: string,
  options?: WebSocketClient.ConnectOptions,
  protocol?: Parameters<typeof RpcClient.layerProtocolSocket>[0]
) {
  const context = yield* Layer.build(
    RpcClient.layerProtocolSocket(protocol).pipe(
      Layer.provide([EffectSocket.layer(url, options), RpcSerialization.layerJson]),
      Layer.provide(NodeWebSocketClient.layer)
    )
  )
  return yield* Effect.provideContext(RpcClient.make(Calls), context)
})

describe("effect/rpc over effect-ws", () => {
  it.live("calls, typed failures, and both addresses", () =>
    Effect.gen(function*() {
      const { port, socketServer, url } = yield* start()
      const calls = yield* client(url)
      assert.strictEqual(yield* calls.greet({ name: "Ada" }), "Hello Ada")
      assert.deepStrictEqual(yield* Effect.flip(calls.greet({ name: "" })), new Unknown({ name: "" }))
      assert.strictEqual(yield* calls.upload({ text: "x".repeat(500_000) }), 500_000)
      assert.strictEqual("port" in socketServer.address ? socketServer.address.port : undefined, port)
    }).pipe(Effect.scoped))

  it.live("streams more than all buffers hold, complete and in order", () =>
    Effect.gen(function*() {
      // 16 MiB through queues of 64 KiB and 8 messages.
      const { url } = yield* start({ maxQueuedBytes: 65_536, maxQueuedMessages: 8 })
      const calls = yield* client(url, { receiveBufferBytes: 1024 })
      let expected = 0
      yield* calls.count({ upTo: 1000, padding: 16_384 }).pipe(
        Stream.runForEach(({ n, padding }) =>
          Effect.sync(() => assert.deepEqual([n, padding.length], [++expected, 16_384]))
        )
      )
      assert.strictEqual(expected, 1000)
    }).pipe(Effect.scoped))

  it.live("a client that does not go on holds the server's stream back", () =>
    Effect.gen(function*() {
      const { produced, url } = yield* start()
      const calls = yield* client(url)
      const other = yield* client(url)
      const hold = yield* Deferred.make<void>()
      const reached = yield* Deferred.make<void>()
      const reading = yield* calls.count({ upTo: 2000, padding: 1000 }, { streamBufferSize: 4 }).pipe(
        Stream.tap(({ n }) =>
          n === 3 ? Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(hold)) : Effect.void
        ),
        Stream.runCount,
        Effect.forkChild
      )
      yield* Deferred.await(reached)
      // Meanwhile other calls go there and back: the server has had every occasion to go on.
      for (let i = 0; i < 20; i++) yield* other.greet({ name: "Ada" })
      assert.isBelow(produced.count, 20)
      yield* Deferred.succeed(hold, undefined)
      assert.strictEqual(yield* Fiber.join(reading), 2000)
    }).pipe(Effect.scoped))

  it.live("a peer that reads nothing holds the server back, within the bounds of its queue", () =>
    Effect.gen(function*() {
      const { port, produced, server } = yield* start({ maxQueuedBytes: 100_000, heartbeat: false })
      const peer = yield* upgradeRaw(port, "/rpc")
      const request = {
        _tag: "Request",
        tag: "count",
        payload: { upTo: 1000, padding: 50_000 },
        headers: []
      }
      // Every stream waits for an Ack after its first chunk, but there are a thousand of them.
      yield* peer.send(
        ...Array.from({ length: 1000 }, (_, i) => frame("text", JSON.stringify({ ...request, id: `${i}` })))
      )
      peer.socket.pause()
      const [connection] = yield* server.connections
      while (produced.inAll < 1000) yield* Effect.yieldNow
      // 50 MB want to be sent, and two of the chunks may be queued, one of them in the hands of the kernel.
      assert.isAtMost(yield* connection!.queuedBytes, 150_000)
      assert.strictEqual(produced.count, 1)
    }).pipe(Effect.scoped))

  it.live("a client that goes away ends the server's streams", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { began, ended, url } = yield* start()
      const scope = yield* Scope.make()
      const calls = yield* Scope.provide(client(url), scope)
      const reading = yield* Effect.forkIn(Stream.runDrain(calls.forever()), scope)
      yield* Deferred.await(began)
      yield* Scope.close(scope, Exit.void)
      const exit = yield* Deferred.await(ended)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      yield* Fiber.await(reading)
      assert.deepStrictEqual(errors, [])
    }).pipe(Effect.scoped))

  it.live("a client that resets ends them too, and others go on", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { began, ended, port, url } = yield* start()
      const calls = yield* client(url)
      const peer = yield* upgradeRaw(port, "/rpc")
      yield* peer.send(
        frame("text", JSON.stringify({ _tag: "Request", id: "1", tag: "forever", payload: null, headers: [] }))
      )
      yield* Deferred.await(began)
      yield* peer.reset
      assert.isTrue(Exit.isFailure(yield* Deferred.await(ended)))
      assert.strictEqual(yield* calls.greet({ name: "Ada" }), "Hello Ada")
      assert.deepStrictEqual(errors, [])
    }).pipe(Effect.scoped))

  it.live("a server that closes the connection fails the client's calls with the close code", () =>
    Effect.gen(function*() {
      const { began, server, url } = yield* start()
      const calls = yield* client(url)
      const reading = yield* Effect.forkChild(Effect.flip(Stream.runDrain(calls.forever())))
      yield* Deferred.await(began)
      const [connection] = yield* server.connections
      yield* connection!.close(4000, "enough")
      const error = yield* Fiber.join(reading)
      assert.instanceOf(error, RpcClientError.RpcClientError)
      assert.deepInclude(error.reason, { _tag: "SocketCloseError", code: 4000, closeReason: "enough" })
    }).pipe(Effect.scoped))

  it.live("what is no call gets an answer, and the connection goes on", () =>
    Effect.gen(function*() {
      const { port } = yield* start()
      const peer = yield* upgradeRaw(port, "/rpc")
      yield* peer.send(frame("text", "no call"))
      assert.include((yield* peer.frame).payload.toString(), "Defect")
      yield* peer.send(
        frame("text", JSON.stringify({ _tag: "Request", id: "1", tag: "greet", payload: { name: "a" }, headers: [] }))
      )
      assert.include((yield* peer.frame).payload.toString(), "Hello a")
    }).pipe(Effect.scoped))

  it.live("the client connects again after its server was gone", () =>
    Effect.gen(function*() {
      const server = yield* listenRaw
      const calls = yield* client(server.url)
      const call = yield* Effect.forkChild(Effect.flip(calls.greet({ name: "Ada" })))
      const first = yield* server.accept
      yield* first.reset
      const error = yield* Fiber.join(call)
      assert.instanceOf(error, RpcClientError.RpcClientError)
      const second = yield* server.accept
      assert.match(yield* second.head, /^GET \/ HTTP/)
    }).pipe(Effect.scoped))

  it.live("a dropped connection and a restarted server: what is in flight fails and is not repeated, and the same client goes on", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const calls = yield* client(first.url)
      const reading = yield* Effect.forkChild(Effect.flip(Stream.runDrain(calls.forever())))
      yield* Deferred.await(first.began)
      const [connection] = yield* first.server.connections
      yield* connection!.abort
      const error = yield* Fiber.join(reading)
      assert.instanceOf(error, RpcClientError.RpcClientError)
      assert.deepInclude(error.reason, { _tag: "SocketCloseError", code: 1006 })
      // Without a connection, calls fail at once.
      assert.strictEqual(yield* Effect.flip(calls.greet({ name: "Ada" })), error)

      yield* first.stop
      const second = yield* start({ port: first.port })
      const greeting = yield* calls.greet({ name: "Ada" }).pipe(
        Effect.retry({
          schedule: Schedule.spaced("50 millis"),
          while: (error) => error instanceof RpcClientError.RpcClientError
        })
      )
      assert.strictEqual(greeting, "Hello Ada")
      assert.isFalse(yield* Deferred.isDone(second.began))
    }).pipe(Effect.scoped))

  it.live("an orderly shutdown interrupts the calls in flight, and with them their callers", () =>
    Effect.gen(function*() {
      const { began, stop, url } = yield* start()
      const calls = yield* client(url)
      const reading = yield* Effect.forkChild(Stream.runDrain(calls.forever()))
      yield* Deferred.await(began)
      yield* stop
      const exit = yield* Fiber.await(reading)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
    }).pipe(Effect.scoped))

  it.live("calls made before the first connection wait for it, if transient errors are retried", () =>
    Effect.gen(function*() {
      const { port, stop } = yield* start()
      yield* stop
      const attempted = yield* Deferred.make<void>()
      const calls = yield* client(`ws://127.0.0.1:${port}/rpc`, {}, {
        retryTransientErrors: true,
        onTransientError: () => Deferred.succeed(attempted, undefined)
      })
      const greeting = yield* Effect.forkChild(calls.greet({ name: "Ada" }))
      yield* Deferred.await(attempted)
      yield* start({ port })
      assert.strictEqual(yield* Fiber.join(greeting), "Hello Ada")
    }).pipe(Effect.scoped))

  it.live("shutting the server down closes its sockets with 1001", () =>
    Effect.gen(function*() {
      const { port, stop } = yield* start()
      const peer = yield* upgradeRaw(port, "/rpc")
      const stopping = yield* Effect.forkChild(stop)
      assert.strictEqual(closeOf(yield* peer.frame)?.code, 1001)
      yield* peer.reset
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))
})

describe("effect/rpc on a route of Effect's HTTP server", () => {
  const handlers = Calls.toLayer({
    greet: ({ name }) => Effect.succeed(`Hello ${name}`),
    count: ({ upTo }) => Stream.map(Stream.range(1, upTo), (n) => ({ n, padding: "" })),
    upload: () => Effect.never,
    forever: () => Stream.never
  })
  const Rpcs = RpcServer.layer(Calls).pipe(
    Layer.provide([handlers, RpcServer.layerProtocolSocketServer]),
    Layer.provideMerge(NodeWebSocketRoute.layerSocketServer("/rpc")),
    Layer.provide(RpcSerialization.layerJson)
  )
  const serve = <R>(routes: Layer.Layer<SocketServer.SocketServer, never, R>) =>
    Effect.gen(function*() {
      const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
      const page = HttpRouter.add("GET", "/", HttpServerResponse.text("a page"))
      const context = yield* HttpRouter.serve(Layer.merge(routes, page), {
        disableListenLog: true,
        disableLogger: true
      }).pipe(
        Layer.provideMerge(NodeWebSocketRoute.layerHttpServer(createServer, { port: 0, host: "127.0.0.1" })),
        Layer.build,
        Scope.provide(scope)
      )
      const { address, run } = Context.get(context, SocketServer.SocketServer)
      const port = "port" in address ? address.port : NaN
      return { port, run, stop: Scope.close(scope, Exit.void) }
    })

  it.live("shares the port with HTTP, and ends with it", () =>
    Effect.gen(function*() {
      const { port, stop } = yield* serve(Rpcs)
      const calls = yield* client(`ws://127.0.0.1:${port}/rpc`)
      assert.strictEqual(yield* calls.greet({ name: "Ada" }), "Hello Ada")
      assert.strictEqual(yield* Stream.runCount(calls.count({ upTo: 5000, padding: 0 })), 5000)
      const page = yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/`).then((response) => response.text()))
      assert.strictEqual(page, "a page")
      const peer = yield* upgradeRaw(port, "/rpc")
      const stopping = yield* Effect.forkChild(stop)
      assert.strictEqual(closeOf(yield* peer.frame)?.code, 1001)
      yield* peer.reset
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.live("its socket server serves while it is run, and interrupting that closes with 1001", () =>
    Effect.gen(function*() {
      const { port, run } = yield* serve(NodeWebSocketRoute.layerSocketServer("/rpc"))
      const before = yield* connectRaw(port)
      yield* before.send(openingRequest({ target: "/rpc" }))
      assert.strictEqual((yield* response(before)).status, 503)

      const started = yield* Deferred.make<void>()
      const running = yield* Effect.forkChild(
        run((socket) =>
          Effect.gen(function*() {
            const { pull } = yield* socket.reader
            yield* Deferred.succeed(started, undefined)
            return yield* pull
          }).pipe(Effect.scoped)
        ),
        { startImmediately: true }
      )
      const peer = yield* upgradeRaw(port, "/rpc")
      yield* Deferred.await(started)
      yield* Effect.forkChild(Fiber.interrupt(running))
      assert.strictEqual(closeOf(yield* peer.frame)?.code, 1001)
    }).pipe(Effect.scoped))
})
