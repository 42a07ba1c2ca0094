import { type Connection, HandshakeRequest, type Transport, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import { NodeCompression } from "@effect-ws/node"
import { TestNetwork, VirtualTime, WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it, layer } from "@effect/vitest"
import { Clock, Console, Deferred, Duration, Effect, Exit, Fiber, Layer, Logger, Option, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"

const Echo = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
)

const echoNetwork = (options: Parameters<typeof TestNetwork.layerWith>[0] = {}) =>
  Layer.provideMerge(Echo, TestNetwork.layerWith(options))

const start = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

describe("TestNetwork", () => {
  layer(Layer.provideMerge(Echo, TestNetwork.layer), {})("with the layer of an application", (it) => {
    it.effect("its client reaches its server under any name, and no time passes", () =>
      Effect.gen(function*() {
        const connection = yield* WebSocketClient.connect("wss://echo.example/path?x=1")
        yield* connection.sendAll(["a", Uint8Array.of(1, 2)])
        assert.strictEqual(yield* connection.receive, "a")
        assert.deepStrictEqual(yield* connection.receive, Uint8Array.of(1, 2))
        assert.strictEqual(connection.request.url, "/path?x=1")
        assert.strictEqual(connection.request.headers["host"], "echo.example")
      }))
  })

  it.effect("§4: the handshake is the real one, with subprotocol, headers and cookies both ways", () => {
    const Chat = WebSocketServer.serve(
      (connection, name) => connection.send(`hello ${name}`),
      {
        path: "/chat",
        subprotocols: ["v2", "v1"],
        handshake: (request: HandshakeRequest.HandshakeRequest) =>
          Effect.succeed({ data: request.cookies["name"], headers: { "set-cookie": ["a=1", "b=2"] } })
      }
    )
    return Effect.gen(function*() {
      const connection = yield* WebSocketClient.connect("ws://localhost/chat", {
        subprotocols: ["v1", "v2"],
        headers: { cookie: "name=Ada" }
      })
      assert.deepStrictEqual(connection.subprotocol, Option.some("v2"))
      assert.strictEqual(connection.response.headers["set-cookie"], "a=1, b=2")
      assert.strictEqual(yield* connection.receive, "hello Ada")
    }).pipe(Effect.provide(Layer.provideMerge(Chat, TestNetwork.layer)))
  })

  it.effect("§4.1: redirects are followed if the client asks for it, and credentials sent", () => {
    const Moved = WebSocketServer.serve(() => Effect.void, {
      path: "/moved",
      handshake: () => new HandshakeRequest.HandshakeRejected({ status: 307, headers: { location: "/echo" } })
    })
    const Who = WebSocketServer.serve(
      (connection) => connection.send(connection.request.headers["authorization"] ?? "nobody"),
      { path: "/echo" }
    )
    return Effect.gen(function*() {
      const url = "wss://user:pass@echo.example/moved"
      const followed = yield* WebSocketClient.connect(url, { maxRedirects: 1, basicAuth: true })
      assert.strictEqual(yield* followed.receive, "Basic dXNlcjpwYXNz")
      const error = yield* Effect.flip(WebSocketClient.connect(url))
      assert.isTrue(error.reason._tag === "UpgradeRejected" && error.reason.status === 307)
    }).pipe(Effect.provide(Layer.provideMerge(Layer.merge(Moved, Who), TestNetwork.layer)))
  })

  it.effect("§4.2.2: a rejection is seen as its HTTP response", () => {
    const Closed = WebSocketServer.serve(() => Effect.void, {
      handshake: () =>
        Effect.fail(
          new HandshakeRequest.HandshakeRejected({
            status: 401,
            headers: { "www-authenticate": "Bearer" },
            body: "who?"
          })
        )
    })
    return Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      const error = yield* Effect.flip(WebSocketClient.connect("ws://localhost"))
      assert.deepInclude(error.reason, { _tag: "UpgradeRejected", status: 401, body: "who?" })
      assert.deepInclude((error.reason as { headers?: unknown }).headers, { "www-authenticate": "Bearer" })
      yield* Effect.yieldNow
      assert.lengthOf(yield* network.links, 0)
    }).pipe(Effect.provide(Layer.provideMerge(Closed, TestNetwork.layer)))
  })

  it.effect("nobody is where nobody listens", () =>
    Effect.gen(function*() {
      const reasonOf = (url: string) =>
        Effect.map(Effect.flip(WebSocketClient.connect(url)), ({ reason }) => reason._tag)
      assert.strictEqual(yield* reasonOf("ws://elsewhere:8080"), "HostNotFound")
      assert.strictEqual(yield* reasonOf("ws://here:81"), "ConnectionRefused")
      yield* WebSocketClient.connect("ws://here:8080")
    }).pipe(Effect.provide(echoNetwork({ server: { host: "here", port: 8080 } }))))

  it.effect("several servers have addresses of their own", () => {
    const named = (host: string) =>
      WebSocketServer.serve((connection) => connection.send(`this is ${host}`)).pipe(
        Layer.provide(TestNetwork.layerServer({ host }))
      )
    return Effect.gen(function*() {
      for (const host of ["a.example", "b.example"]) {
        const connection = yield* WebSocketClient.connect(`ws://${host}`)
        assert.strictEqual(yield* connection.receive, `this is ${host}`)
      }
    }).pipe(Effect.provide(
      Layer.mergeAll(named("a.example"), named("b.example"), TestNetwork.layerClient).pipe(
        Layer.provideMerge(TestNetwork.layerNetwork())
      )
    ))
  })

  it.effect("latency is virtual time: a handshake takes one there and one back, and so does an echo", () =>
    Effect.gen(function*() {
      const connecting = yield* start(WebSocketClient.connect("ws://localhost"))
      yield* TestClock.adjust("199 millis")
      assert.isUndefined(connecting.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      const connection = yield* Fiber.join(connecting)
      yield* connection.send("a")
      const receiving = yield* start(connection.receive)
      yield* TestClock.adjust("199 millis")
      assert.isUndefined(receiving.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(receiving), "a")
      const pinging = yield* start(connection.ping)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(Duration.toMillis(yield* Fiber.join(pinging)), 200)
    }).pipe(Effect.provide(echoNetwork({ link: { latency: "100 millis" } }))))

  it.effect("a request that is lost on the way runs into the connect timeout, and leaves no link", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      yield* network.set({ flow: "cut" })
      const connecting = yield* start(Effect.flip(WebSocketClient.connect("ws://localhost")))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(connecting)).reason._tag, "ConnectTimeout")
      yield* network.set({ flow: "open" })
      yield* Effect.yieldNow
      assert.lengthOf(yield* network.links, 0)
    }).pipe(Effect.provide(echoNetwork())))

  it.effect("a link that breaks during the handshake fails the connect, and the hook is interrupted", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const Slow = WebSocketServer.serve(() => Effect.void, {
        handshake: () => Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
      })
      yield* Effect.gen(function*() {
        const network = yield* TestNetwork.TestNetwork
        const connecting = yield* start(Effect.flip(WebSocketClient.connect("ws://localhost")))
        yield* Effect.yieldNow
        for (const link of yield* network.links) yield* link.reset
        assert.strictEqual((yield* Fiber.join(connecting)).reason._tag, "NetworkFailure")
        yield* Deferred.await(interrupted)
      }).pipe(Effect.provide(Layer.provideMerge(Slow, TestNetwork.layer)))
    }))

  it.effect("an interrupted connect leaves no link, and interrupts the hook", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const Slow = WebSocketServer.serve(() => Effect.void, {
        handshake: () => Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
      })
      yield* Effect.gen(function*() {
        const network = yield* TestNetwork.TestNetwork
        const connecting = yield* start(WebSocketClient.connect("ws://localhost"))
        yield* Effect.yieldNow
        yield* Fiber.interrupt(connecting)
        yield* Deferred.await(interrupted)
        yield* Effect.yieldNow
        assert.lengthOf(yield* network.links, 0)
      }).pipe(Effect.provide(Layer.provideMerge(Slow, TestNetwork.layer)))
    }))

  it.effect("when the application's layer is released, its clients are told with 1001, and nobody is reached any more", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      const connection = yield* Effect.gen(function*() {
        const connection = yield* WebSocketClient.connect("ws://localhost")
        yield* connection.send("a")
        yield* connection.receive
        return connection
      }).pipe(Effect.provide(Echo.pipe(Layer.provide(TestNetwork.layerServer()))))
      assert.deepInclude({ ...yield* connection.closed }, { code: 1001, wasClean: true, initiator: "Remote" })
      assert.lengthOf(yield* network.links, 0)
      const error = yield* Effect.flip(WebSocketClient.connect("ws://localhost"))
      assert.strictEqual(error.reason._tag, "HostNotFound")
    }).pipe(Effect.provide(Layer.provideMerge(TestNetwork.layerClient, TestNetwork.layerNetwork()))))

  it.effect("backpressure is real: a server that does not read suspends its client within the bounds", () => {
    const Deaf = WebSocketServer.serve(() => Effect.never, {})
    return Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      const connection = yield* WebSocketClient.connect("ws://localhost", { maxQueuedBytes: 100_000 })
      let sent = 0
      const message = new Uint8Array(10_000)
      const sending = yield* start(
        Effect.forever(Effect.tap(connection.send(message), () => Effect.sync(() => sent++)))
      )
      for (let i = 0; i < 100; i++) yield* Effect.yieldNow
      assert.isUndefined(sending.pollUnsafe())
      const link = yield* network.linkOf(connection)
      assert.isAtLeast(yield* link.inTransit("toServer"), 64 * 1024)
      assert.isAtMost(yield* link.inTransit("toServer"), 64 * 1024 + 80_000)
      assert.isAtMost(yield* connection.queuedBytes, 100_000)
      assert.isAtMost(sent, 40)
      yield* connection.abort
    }).pipe(Effect.provide(Layer.provideMerge(Deaf, TestNetwork.layer)))
  })

  it.effect("two runs with one seed do the same, and another seed does something else", () => {
    const run = (seed: number) =>
      Effect.gen(function*() {
        const connection = yield* WebSocketClient.connect("ws://localhost")
        const trips = yield* Effect.replicateEffect(connection.ping, 5)
        return trips.map(String)
      }).pipe(
        Effect.scoped,
        Effect.provide(echoNetwork({ seed, link: { latency: 10, jitter: 100 } })),
        VirtualTime.passing
      )
    return Effect.gen(function*() {
      const first = yield* run(7)
      assert.deepStrictEqual(yield* run(7), first)
      assert.notDeepEqual(yield* run(8), first)
    })
  })

  it.effect("§4.2.2: the digest is SHA-1", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      const headers = Handshake.requestHeaders({
        key: "dGhlIHNhbXBsZSBub25jZQ==",
        host: "localhost",
        subprotocols: []
      })
      const url = {
        _tag: "WebSocketUrl" as const,
        secure: false,
        socketPath: undefined,
        host: "localhost",
        hostHeader: "localhost",
        port: 80,
        target: "/",
        hasCredentials: false
      }
      const opened = yield* network.dial({ url, headers })
      assert.strictEqual(opened.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
      opened.transport.destroy()
    }).pipe(Effect.provide(echoNetwork())))

  it.effect.each(["slow", "cut"] as const)(
    "a test that ends while its links are %s does not wait for ever",
    (what) =>
      Effect.gen(function*() {
        const network = yield* TestNetwork.TestNetwork
        const connection = yield* WebSocketClient.connect("ws://localhost")
        yield* network.set(what === "slow" ? { latency: "1 second" } : { flow: "cut" })
        return connection.closed
      }).pipe(
        Effect.scoped,
        Effect.flatten,
        Effect.provide(echoNetwork()),
        Effect.tap((event) => Effect.sync(() => assert.strictEqual(event.wasClean, what === "slow")))
      )
  )

  it.effect("what is set for all links holds for those to come, in its direction; what is set for one, for that one", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      yield* network.set({ latency: "50 millis" }, "toClient")
      const connect = Effect.gen(function*() {
        const connecting = yield* start(WebSocketClient.connect("ws://localhost"))
        yield* TestClock.adjust("50 millis")
        return yield* Fiber.join(connecting)
      })
      const [one, other] = [yield* connect, yield* connect]
      yield* Effect.flatMap(network.linkOf(one), (link) => link.set({ latency: "1 second" }, "toServer"))
      const pings = yield* start(Effect.all([one.ping, other.ping], { concurrency: 2 }))
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual((yield* Fiber.join(pings)).map(Duration.toMillis), [1050, 50])
    }).pipe(Effect.provide(echoNetwork())))

  it.effect("linkOf finds the link from either side, until the connection is over", () => {
    let server: Connection.Connection | undefined
    const Keep = WebSocketServer.serve((connection) => {
      server = connection
      return connection.closed
    })
    return Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      yield* WebSocketClient.connect("ws://localhost")
      const client = yield* WebSocketClient.connect("ws://localhost")
      const link = yield* network.linkOf(client)
      assert.strictEqual(yield* network.linkOf(server!), link)
      assert.strictEqual((yield* network.links)[1], link)
      yield* client.abort
      yield* Effect.repeat(Effect.yieldNow, { times: 4 })
      assert.isTrue(Exit.hasDies(yield* Effect.exit(network.linkOf(client))))
    }).pipe(Effect.provide(Layer.provideMerge(Keep, TestNetwork.layer)))
  })

  it.effect("wrap goes around the transports of both sides", () => {
    const roles: Array<string> = []
    return Effect.gen(function*() {
      const connection = yield* WebSocketClient.connect("ws://localhost")
      yield* connection.send("hello")
      yield* connection.receive
      assert.sameMembers(roles, ["client", "server"])
    }).pipe(Effect.provide(echoNetwork({
      wrap: (transport, role) => {
        roles.push(role)
        return transport
      }
    })))
  })

  it.effect("compresses if it is given what does (RFC 7692)", () =>
    Effect.gen(function*() {
      const { compression } = NodeCompression
      let bytes = 0
      const connect = Effect.gen(function*() {
        const connection = yield* WebSocketClient.connect("ws://localhost", { deflate: true })
        yield* connection.send("x".repeat(10_000))
        assert.strictEqual(yield* connection.receive, "x".repeat(10_000))
        return connection.extensions.map(({ name }) => name)
      }).pipe(Effect.scoped)
      const wrap = (transport: Transport.Transport): Transport.Transport => ({
        peerAddress: transport.peerAddress,
        localAddress: transport.localAddress,
        capabilities: transport.capabilities,
        start: (handler) => transport.start(handler),
        pause: () => transport.pause(),
        resume: () => transport.resume(),
        write: (chunks) => {
          for (const chunk of chunks) bytes += chunk.length
          return transport.write(chunks)
        },
        end: () => transport.end(),
        destroy: () => transport.destroy()
      })
      const server = { deflate: true }
      assert.deepStrictEqual(yield* Effect.provide(connect, echoNetwork({ server, wrap })), [])
      assert.isAbove(bytes, 20_000)
      bytes = 0
      const compressing = echoNetwork({ compression, server, wrap })
      assert.deepStrictEqual(yield* Effect.provide(connect, compressing), ["permessage-deflate"])
      assert.isBelow(bytes, 200)
    }))

  it.effect("a header that is not HTTP is refused before anything is sent", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(WebSocketClient.connect("ws://localhost", { headers: { "x-bad": "a\nb" } }))
      assert.strictEqual(error.reason._tag, "InvalidRequest")
    }).pipe(Effect.provide(echoNetwork())))

  it.effect("two servers at one address are a mistake of the test", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(TestNetwork.layerServer())))
      assert.isTrue(Exit.hasDies(exit))
    }).pipe(Effect.provide(TestNetwork.layer)))

  describe("the seed is told", () => {
    const told = Effect.fnUntraced(function*<E, R>(test: Effect.Effect<void, E, R | Scope.Scope>) {
      const lines: Array<unknown> = []
      const logger = Logger.make(({ fiber, message }) => {
        // What is printed to the console of the test, nobody sees.
        if (fiber.getRef(Console.Console) === globalThis.console) lines.push(message)
      })
      yield* Effect.exit(Effect.scoped(test)).pipe(Effect.provide(Logger.layer([logger])))
      return lines.flat()
    })
    const connectProbes = Effect.all([
      WebSocketProbe.connect("ws://localhost"),
      WebSocketProbe.connect("ws://localhost")
    ])

    it.effect("by a test that fails, and not by one that passes", () =>
      Effect.gen(function*() {
        const run = <E>(test: Effect.Effect<void, E>, seed: number) =>
          told(Effect.provide(test, TestNetwork.layerNetwork({ seed })))
        assert.deepStrictEqual(yield* run(Effect.void, 1), [])
        assert.deepStrictEqual(yield* run(Effect.interrupt, 1), [])
        assert.deepStrictEqual(yield* run(Effect.fail("no"), 2), ["The seed of the TestNetwork was 2"])
      }))

    it.effect("once by a test with probes that fails, though its network is one that tests share", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* told(Effect.asVoid(connectProbes)), [])
        assert.deepStrictEqual(
          yield* told(Effect.andThen(connectProbes, Effect.sync(() => assert.fail("no")))),
          ["The seed of the TestNetwork was \"shared\""]
        )
        assert.deepStrictEqual(
          yield* told(Effect.gen(function*() {
            const nextRequest = yield* WebSocketProbe.listen({ host: "played" })
            yield* start(Effect.ignore(WebSocketProbe.connect("ws://played")))
            const { accept } = yield* nextRequest
            const probe = yield* accept()
            yield* probe.expectText("no").pipe(Effect.timeout(0), TestClock.withLive)
          })),
          ["The seed of the TestNetwork was \"shared\""]
        )
      }).pipe(Effect.provide(echoNetwork({ seed: "shared" }))))
  })

  it.effect("a connection that is released while others go on does not make the time pass", () =>
    Effect.gen(function*() {
      const other = yield* WebSocketClient.connect("ws://localhost")
      yield* Effect.scoped(WebSocketClient.connect("ws://localhost"))
      yield* Effect.scoped(Effect.flatMap(WebSocketClient.connect("ws://localhost"), ({ abort }) => abort))
      yield* TestClock.withLive(Effect.sleep("150 millis"))
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      assert.strictEqual(yield* other.state, "Open")
    }).pipe(Effect.provide(echoNetwork())))

  it.effect("nor does one whose release takes time, while the test goes on on a machine that is busy", () =>
    Effect.gen(function*() {
      const network = yield* TestNetwork.TestNetwork
      const scope = yield* Scope.make()
      const slow = yield* Scope.provide(WebSocketClient.connect("ws://localhost"), scope)
      const other = yield* WebSocketClient.connect("ws://localhost")
      yield* (yield* network.linkOf(slow)).set({ latency: "1 second" })
      yield* start(Scope.close(scope, Exit.void))
      for (let i = 0; i < 5; i++) {
        const until = performance.now() + 60
        while (performance.now() < until) {
          // Nobody else gets a turn.
        }
        yield* Effect.repeat(Effect.yieldNow, { times: 10 })
        yield* other.send("hello")
        assert.strictEqual(yield* other.receive, "hello")
      }
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
      yield* TestClock.adjust("1999 millis")
      assert.strictEqual(yield* slow.state, "Closing")
      yield* TestClock.adjust("1 millis")
      assert.isTrue((yield* slow.closed).wasClean)
    }).pipe(Effect.provide(echoNetwork())))

  it.live("runs on the real clock too", () =>
    Effect.gen(function*() {
      const connection = yield* WebSocketClient.connect("ws://localhost")
      yield* connection.send("hello")
      assert.strictEqual(yield* connection.receive, "hello")
    }).pipe(Effect.scoped, Effect.provide(echoNetwork({ link: { latency: "1 millis" } }))))

  it.effect("the end of the network is the end of its links", () =>
    Effect.gen(function*() {
      const closed = yield* Effect.gen(function*() {
        const network = yield* TestNetwork.TestNetwork
        const connection = yield* WebSocketClient.connect("ws://localhost", { closeTimeout: "1 hour" })
        yield* network.set({ flow: "cut" })
        return connection.closed
      }).pipe(
        Effect.provide(Layer.provideMerge(TestNetwork.layerClient, echoNetwork({ server: { closeTimeout: 0 } }))),
        Effect.exit
      )
      assert.isTrue(Exit.isSuccess(closed))
    }))
})
