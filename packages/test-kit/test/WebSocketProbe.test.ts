import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeTransport, NodeWebSocketServer } from "@effect-ws/node"
import { TestLink, TestNetwork, WebSocketProbe, Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Http from "node:http"

const Echo = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
)

const echoNetwork = Layer.provideMerge(Echo, TestNetwork.layer)

const start = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const openPair = Effect.gen(function*() {
  const link = yield* TestLink.make()
  return {
    probe: yield* WebSocketProbe.make(link.server, "server"),
    peer: yield* WebSocketProbe.make(link.client, "client")
  }
})

describe("a probe as client", () => {
  it.effect("speaks to a server frame by frame", () =>
    Effect.gen(function*() {
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      yield* probe.send(Wire.text("hel", { fin: false }), Wire.ping("now"), Wire.continuation("lo"))
      yield* probe.expectPong(Wire.ping("now").payload)
      yield* probe.expectText("hello")
      yield* probe.send(Wire.binary([1, 2]))
      assert.deepStrictEqual(yield* probe.expectBinary(), Uint8Array.of(1, 2))
      yield* probe.sendClose(4000, "enough")
      assert.deepStrictEqual(yield* probe.expectClose(4000), { code: 4000, reason: "enough" })
      yield* probe.expectEnd
    }).pipe(Effect.provide(echoNetwork)))

  it.effect("closes as an endpoint does, whatever comes before the answer", () =>
    Effect.gen(function*() {
      const server = yield* WebSocketServer.WebSocketServer
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      yield* probe.sendText("a", "b")
      const [connection] = yield* server.connections
      yield* probe.close(4000, "enough")
      assert.deepInclude({ ...yield* connection!.closed }, { code: 4000, reason: "enough", wasClean: true })
    }).pipe(Effect.provide(echoNetwork)))

  it.effect("sends what no client may send", () =>
    Effect.gen(function*() {
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      yield* probe.send(Wire.text("x", { masked: false }))
      yield* probe.expectClose(1002)
      yield* probe.expectEnd
    }).pipe(Effect.provide(echoNetwork)))

  it.effect("sees a rejection as a client does", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(WebSocketProbe.connect("ws://localhost/nowhere"))
      assert.deepInclude(error.reason, { _tag: "UpgradeRejected", status: 404 })
      const invalid = yield* Effect.flip(WebSocketProbe.connect("http://localhost"))
      assert.strictEqual(invalid.reason._tag, "InvalidUrl")
    }).pipe(
      Effect.provide(
        Layer.provideMerge(WebSocketServer.serve(() => Effect.void, { path: "/here" }), TestNetwork.layer)
      )
    ))

  it.effect("expects the heartbeat, in virtual time, and the end of who does not answer", () =>
    Effect.gen(function*() {
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      yield* probe.expectNoMessage("19999 millis")
      yield* TestClock.adjust("1 millis")
      yield* probe.expectPing
      yield* TestClock.adjust("20 seconds")
      yield* probe.expectEnd
    }).pipe(Effect.provide(echoNetwork)))

  it.effect("demand: what is not demanded is not read, and the server's sends suspend", () => {
    let sent = 0
    const Feed = WebSocketServer.serve((connection) =>
      Effect.forever(Effect.suspend(() => connection.send(`${sent++}`.padStart(1000))))
    )
    return Effect.gen(function*() {
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      yield* probe.demand(2)
      yield* Effect.repeat(Effect.yieldNow, { times: 100 })
      const held = sent
      assert.isAtMost(held, 25)
      yield* probe.expectText("0".padStart(1000))
      yield* probe.expectText("1".padStart(1000))
      yield* probe.expectNoMessage("1 second")
      assert.strictEqual(sent, held)
      yield* probe.demand(1)
      yield* probe.expectText("2".padStart(1000))
      yield* probe.expectNoMessage("1 second")
    }).pipe(Effect.provide(Layer.provideMerge(
      Feed,
      TestNetwork.layerWith({ link: { bufferBytes: 10_000 }, server: { maxQueuedBytes: 10_000 } })
    )))
  })
})

describe("a probe as server", () => {
  const network = Layer.provideMerge(TestNetwork.layerClient, TestNetwork.layerNetwork())

  it.effect("accepts a client's request, with subprotocol and headers", () =>
    Effect.gen(function*() {
      const nextRequest = yield* WebSocketProbe.listen({ host: "feed.example", port: 443 })
      const connecting = yield* start(
        WebSocketClient.connect("wss://feed.example/prices", { subprotocols: ["v1"], headers: { "x-key": "k" } })
      )
      const request = yield* nextRequest
      assert.strictEqual(request.url, "/prices")
      assert.strictEqual(request.headers["x-key"], "k")
      const probe = yield* request.accept({ subprotocol: "v1", headers: { "x-node": "n1" } })
      const connection = yield* Fiber.join(connecting)
      assert.strictEqual(connection.response.headers["x-node"], "n1")
      yield* connection.send("hello")
      yield* probe.expectText("hello")
      yield* probe.sendText("a", "b")
      assert.deepStrictEqual([yield* connection.receive, yield* connection.receive], ["a", "b"])
      yield* probe.sendClose(1000)
      yield* probe.expectClose(1000)
      yield* probe.end
      assert.isTrue((yield* connection.closed).wasClean)
    }).pipe(Effect.provide(network)))

  it.effect("rejects it", () =>
    Effect.gen(function*() {
      const nextRequest = yield* WebSocketProbe.listen()
      const connecting = yield* start(Effect.flip(WebSocketClient.connect("ws://anywhere")))
      yield* Effect.flatMap(nextRequest, (request) => request.reject({ status: 503, headers: {}, body: "later" }))
      assert.deepInclude((yield* Fiber.join(connecting)).reason, { _tag: "UpgradeRejected", status: 503 })
    }).pipe(Effect.provide(network)))
})

describe("a probe over a real socket", () => {
  it.live("speaks to a server on Node", () =>
    Effect.gen(function*() {
      const { url } = yield* WebSocketServer.WebSocketServer
      const transport = yield* Effect.callback<ReturnType<typeof NodeTransport.fromSocket>>((resume) => {
        const request = Http.request(url.replace("ws:", "http:"), {
          headers: {
            upgrade: "websocket",
            connection: "Upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="
          }
        })
        request.on(
          "upgrade",
          (_response, socket, head) => resume(Effect.succeed(NodeTransport.fromSocket(socket, head)))
        )
        request.end()
      })
      const probe = yield* WebSocketProbe.make(transport, "client")
      yield* probe.sendText("over TCP")
      yield* probe.expectText("over TCP")
      yield* probe.send(Wire.frame(0x3))
      yield* probe.expectClose(1002)
      yield* probe.expectEnd
    }).pipe(Effect.provide(Layer.provideMerge(Echo, NodeWebSocketServer.layer({ port: 0 })))))
})

describe("an expectation that fails", () => {
  const failing = <A>(
    prepare: (peer: WebSocketProbe.WebSocketProbe) => Effect.Effect<void>,
    expect: (probe: WebSocketProbe.WebSocketProbe) => Effect.Effect<A, WebSocketProbe.ProbeError>
  ) =>
    Effect.gen(function*() {
      const { peer, probe } = yield* openPair
      yield* prepare(peer)
      yield* Effect.repeat(Effect.yieldNow, { times: 4 })
      return (yield* Effect.flip(expect(probe))).message.split("\n")
    })

  it.effect("tells what came instead, and what passed before", () =>
    Effect.gen(function*() {
      const { peer, probe } = yield* openPair
      yield* peer.sendText("hello")
      yield* probe.expectText("hello")
      yield* probe.sendText("hi")
      yield* TestClock.adjust("2500 millis")
      yield* peer.send(Wire.text("frag", { fin: false, rsv: 4 }), Wire.ping([1, 255]), Wire.continuation("ment"))
      yield* peer.send(Wire.frame(0xb, "?"), Wire.close(1000, "bye"))
      yield* peer.end
      yield* probe.expectText("fragment")
      const error = yield* Effect.flip(probe.expectClose(1001))
      assert.strictEqual(
        error.message,
        [
          "expected a Close with 1001, but got 0xb 1 3f",
          "       0 <- text                5 \"hello\"",
          "       0 -> text                2 \"hi\"",
          "    2500 <- text+/rsv4          4 \"frag\"",
          "    2500 <- ping                2 01ff",
          "    2500 <- continuation        4 \"ment\"",
          "    2500 <- 0xb                 1 3f",
          "    2500 <- close               5 1000 \"bye\"",
          "    2500 <- end"
        ].join("\n")
      )
    }))

  it.effect.each([
    {
      what: "another text",
      prepare: (peer: WebSocketProbe.WebSocketProbe) => peer.sendText("b"),
      expect: (probe: WebSocketProbe.WebSocketProbe) => probe.expectText("a"),
      message: "expected text 1 \"a\", but got text 1 \"b\""
    },
    {
      what: "text for binary",
      prepare: (peer: WebSocketProbe.WebSocketProbe) => peer.sendText("b"),
      expect: (probe: WebSocketProbe.WebSocketProbe) => probe.expectBinary(Uint8Array.of(7)),
      message: "expected binary 1 07, but got text 1 \"b\""
    },
    {
      what: "a Close for a Ping",
      prepare: (peer: WebSocketProbe.WebSocketProbe) => peer.sendClose(),
      expect: (probe: WebSocketProbe.WebSocketProbe) => probe.expectPing,
      message: "expected a Ping, but got close 0"
    },
    {
      what: "another Pong",
      prepare: (peer: WebSocketProbe.WebSocketProbe) => peer.send(Wire.pong([1])),
      expect: (probe: WebSocketProbe.WebSocketProbe) => probe.expectPong(Uint8Array.of(2)),
      message: "expected pong 1 02, but got pong 1 01"
    },
    {
      what: "the end",
      prepare: (peer: WebSocketProbe.WebSocketProbe) => peer.end,
      expect: (probe: WebSocketProbe.WebSocketProbe) => probe.expectText(),
      message: "expected a text message, but the other side has ended"
    },
    {
      what: "a message where the end should be",
      prepare: (peer: WebSocketProbe.WebSocketProbe) => peer.sendText("more"),
      expect: (probe: WebSocketProbe.WebSocketProbe) => probe.expectEnd,
      message: "expected the end, but got text 4 \"more\""
    },
    {
      what: "a message where there should be none",
      prepare: (peer: WebSocketProbe.WebSocketProbe) => peer.sendText("noise"),
      expect: (probe: WebSocketProbe.WebSocketProbe) => probe.expectNoMessage("1 second"),
      message: "expected no message, but got text 5 \"noise\""
    },
    {
      what: "an unfinished message",
      prepare: (peer: WebSocketProbe.WebSocketProbe) => peer.send(Wire.text("a", { fin: false }), Wire.text("b")),
      expect: (probe: WebSocketProbe.WebSocketProbe) => probe.expectText(),
      message: "expected a text message, but its fragments are followed by text 1 \"b\""
    },
    {
      what: "a message that the schema does not know",
      prepare: (peer: WebSocketProbe.WebSocketProbe) => peer.sendText("{\"x\":true}"),
      expect: (probe: WebSocketProbe.WebSocketProbe) =>
        probe.expectMessage(Schema.fromJsonString(Schema.Struct({ x: Schema.Number }))),
      message: "expected a message that the schema decodes, but Expected"
    }
  ])("says so: $what", ({ expect, message, prepare }) =>
    Effect.gen(function*() {
      const [first = ""] = yield* failing(prepare, expect)
      assert.isTrue(first.startsWith(message), first)
    }))

  it.effect("does not wait for ever, though the test's clock stands still", () =>
    Effect.gen(function*() {
      const [first] = yield* failing(() => Effect.void, (probe) => probe.expectText("a"))
      assert.strictEqual(first, "expected text 1 \"a\", but nothing came")
    }))

  it.effect("a schema decodes the message that is right", () =>
    Effect.gen(function*() {
      const { peer, probe } = yield* openPair
      yield* peer.sendText("{\"x\":1}")
      const X = Schema.fromJsonString(Schema.Struct({ x: Schema.Number }))
      assert.deepStrictEqual(yield* probe.expectMessage(X), { x: 1 })
    }))
})
