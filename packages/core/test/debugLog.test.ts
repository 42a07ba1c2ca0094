import { HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { TestNetwork, WebSocketProbe, Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, References, type Scope, Stream } from "effect"
import { settle } from "./fixture.ts"

const Echo = WebSocketServer.serve(
  (connection) => Stream.runForEach(connection.messages, (message) => connection.send(message)),
  { path: "/echo", subprotocols: ["echo"] }
)

type Services = TestNetwork.TestNetwork | WebSocketServer.WebSocketServer | WebSocketClient.WebSocketClient

/** Runs a test on a network, and gives it what was logged: the message, and what it is annotated with. */
const logged = <A, E>(
  test: (
    lines: (role: "server" | "client") => ReadonlyArray<readonly [string, Record<string, unknown>]>
  ) => Effect.Effect<A, E, Services | Scope.Scope>,
  options: Parameters<typeof TestNetwork.layerWith>[0] = {},
  serving: Layer.Layer<never, never, WebSocketServer.WebSocketServer> = Echo
) => {
  const all: Array<{ readonly message: string; readonly annotations: Record<string, unknown> }> = []
  const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
    assert.strictEqual(logLevel, "Debug")
    all.push({ message: String(message), annotations: { ...fiber.getRef(References.CurrentLogAnnotations) } })
  })
  const lines = (role: "server" | "client") =>
    all.flatMap(({ annotations: { role: its, ...annotations }, message }) =>
      its === role ? [[message, annotations] as const] : []
    )
  return test(lines).pipe(
    Effect.provide(
      Layer.provideMerge(serving, TestNetwork.layerWith(options)).pipe(
        Layer.provideMerge(Layer.merge(Logger.layer([logger]), Layer.succeed(References.MinimumLogLevel, "Debug")))
      )
    )
  )
}

const violation = "reserved bit set without an extension that defines it"

describe("the debug log of a connection", () => {
  it.effect("tells its handshake, the frames without their payload, and its end", () =>
    logged((lines) =>
      Effect.gen(function*() {
        yield* Effect.scoped(Effect.gen(function*() {
          const connection = yield* WebSocketClient.connect("ws://localhost/echo?token=secret", {
            subprotocols: ["echo"],
            debug: true
          })
          yield* connection.sendAll(["secret", new Uint8Array(200), "x".repeat(70_000)])
          yield* Effect.replicateEffect(connection.receive, 3)
          yield* connection.sendStream(Stream.make("sec", "ret"))
          yield* connection.receive
          yield* connection.close(4000, "bye")
        }))
        yield* settle
        const at = { peer: "localhost:80", path: "/echo" }
        const sent = (opcode: string, bytes: number, fin = true) =>
          ["WebSocket frame sent", { ...at, opcode, bytes, fin }] as const
        const received = (opcode: string, bytes: number) =>
          ["WebSocket frame received", { ...at, opcode, bytes, fin: true }] as const
        assert.deepStrictEqual(lines("client"), [
          ["WebSocket connection opened", { ...at, subprotocol: "echo" }],
          sent("text", 6),
          sent("binary", 200),
          sent("text", 70_000),
          received("text", 6),
          received("binary", 200),
          received("text", 70_000),
          sent("text", 3, false),
          sent("continuation", 3, false),
          sent("continuation", 0),
          received("text", 6),
          sent("close", 5),
          received("close", 5),
          ["WebSocket connection closed", { ...at, code: 4000, reason: "bye", wasClean: true, initiator: "Local" }]
        ])
        assert.deepStrictEqual(lines("server"), [])
        assert.notInclude(JSON.stringify(lines("client")), "secret")
      })
    ))

  it.effect("is empty where nobody wants to see lines of that level", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const connection = yield* WebSocketClient.connect("ws://localhost/echo", { debug: true })
        yield* connection.send("hello")
        assert.strictEqual(yield* connection.receive, "hello")
        assert.deepStrictEqual(lines("client"), [])
      }).pipe(Effect.provideService(References.MinimumLogLevel, "Info"))
    ))

  it.effect("is switched on by the hook, for one connection and not for others", () => {
    const serving = WebSocketServer.serve((connection) => Stream.runDrain(connection.messages), {
      handshake: ({ query }: HandshakeRequest.HandshakeRequest) =>
        Effect.succeed({ data: undefined, debug: query.has("debug") })
    })
    return logged(
      (lines) =>
        Effect.gen(function*() {
          for (const target of ["/", "/?debug"]) {
            const probe = yield* WebSocketProbe.connect(`ws://localhost${target}`)
            yield* probe.sendText("hello")
            yield* probe.close(1000)
          }
          yield* settle
          assert.deepStrictEqual(lines("server").map(([message, { opcode }]) => [message, opcode]), [
            ["WebSocket connection opened", undefined],
            ["WebSocket frame received", "text"],
            ["WebSocket frame received", "close"],
            ["WebSocket frame sent", "close"],
            ["WebSocket connection closed", undefined]
          ])
          // Each has the port of its client.
          assert.strictEqual(new Set(lines("server").map(([, { peer }]) => peer)).size, 1)
        }),
      {},
      serving
    )
  })

  it.effect("shows what breaks a rule, and why the connection ended", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const bad = yield* WebSocketProbe.connect("ws://localhost/echo")
        yield* bad.send({ ...Wire.text("abc"), rsv: 2 })
        yield* bad.expectClose(1002)
        yield* bad.end
        yield* settle
        const lost = yield* WebSocketProbe.connect("ws://localhost/echo")
        yield* lost.reset
        yield* settle
        const told = lines("server").map(([message, { path: _path, peer: _peer, ...others }]) =>
          [message, others] as const
        )
        assert.deepStrictEqual(told, [
          ["WebSocket connection opened", {}],
          ["WebSocket frame received", { opcode: "text", bytes: 3, fin: true }],
          ["WebSocket frame sent", { opcode: "close", bytes: 2 + violation.length, fin: true }],
          ["WebSocket connection closed", {
            code: 1002,
            reason: violation,
            wasClean: false,
            initiator: "Local",
            failure: "ProtocolError"
          }],
          ["WebSocket connection opened", {}],
          ["WebSocket transport failed", {}],
          ["WebSocket connection closed", {
            code: 1006,
            reason: "",
            wasClean: false,
            initiator: "Remote",
            failure: "ConnectionLost"
          }]
        ])
      }), { server: { debug: true } }))

  it.effect("tells why a handshake failed, without what may be secret", () => {
    const serving = WebSocketServer.serve(() => Effect.void, {
      path: "/echo",
      handshake: () => Effect.fail(new HandshakeRequest.HandshakeRejected({ status: 401, body: "who?" }))
    })
    return logged(
      (lines) =>
        Effect.gen(function*() {
          const fails = (url: string, headers = {}) =>
            Effect.flip(WebSocketClient.connect(url, { headers, debug: true }))
          yield* fails("ws://localhost/echo?token=secret")
          yield* fails("ws://localhost/other?token=secret")
          yield* fails("ws://localhost/echo", { origin: "http://elsewhere" })
          assert.deepStrictEqual(
            lines("server").map(([message, { outcome, path, status }]) => [message, path, outcome, status]),
            [
              ["WebSocket handshake failed", "/echo", "rejected", 401],
              ["WebSocket handshake failed", "/other", "unserved", 404],
              ["WebSocket handshake failed", "/echo", "origin", 403]
            ]
          )
          assert.deepStrictEqual(lines("client")[0], ["WebSocket handshake failed", {
            url: "ws://localhost/echo",
            outcome: "UpgradeRejected",
            status: 401
          }])
          assert.notInclude(JSON.stringify([lines("server"), lines("client")]), "secret")
        }),
      { server: { debug: true } },
      serving
    )
  })

  it.effect("finds frames wherever the bytes are split", () =>
    logged(
      (lines) =>
        Effect.gen(function*() {
          const probe = yield* WebSocketProbe.connect("ws://localhost/echo")
          yield* probe.sendText("", "a", "b".repeat(125), "c".repeat(126), "d".repeat(65_536))
          yield* probe.close(1000)
          yield* settle
          const received = lines("server").filter(([message]) => message === "WebSocket frame received")
          assert.deepStrictEqual(received.map(([, { bytes }]) => bytes), [0, 1, 125, 126, 65_536, 2])
        }),
      { link: { chunkBytes: { min: 1, max: 5 } }, server: { debug: true } },
      WebSocketServer.serve((connection) => Stream.runDrain(connection.messages))
    ))
})
