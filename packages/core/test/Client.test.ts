import { WebSocketClient } from "@effect-ws/core"
import { TestNetwork, WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer } from "effect"
import { start } from "./fixture.ts"

const withNetwork = Effect.provide(Layer.provideMerge(TestNetwork.layerClient, TestNetwork.layerNetwork()))

/** Why connecting fails. */
const failure = (url: string, options?: WebSocketClient.ConnectOptions) =>
  WebSocketClient.connect(url, options).pipe(
    Effect.scoped,
    Effect.flip,
    Effect.tap((error) => Effect.sync(() => assert.strictEqual(error.url, url))),
    Effect.map((error) => error.reason)
  )

describe("a server that answers with something else than the upgrade (RFC 6455, section 4.1)", () => {
  type Changes = Readonly<Record<string, string | undefined>>

  const wrong: ReadonlyArray<readonly [name: string, changes: Changes, section: string]> = [
    ["a wrong accept", { "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" }, "4.1"],
    ["no accept", { "sec-websocket-accept": undefined }, "4.1"],
    ["no Upgrade", { upgrade: undefined }, "4.1"],
    ["another upgrade", { upgrade: "h2c" }, "4.1"],
    ["no Connection", { connection: undefined }, "4.1"],
    ["Connection without Upgrade", { connection: "keep-alive" }, "4.1"],
    ["neither Upgrade nor Connection", { upgrade: undefined, connection: undefined }, "4.1"],
    ["a subprotocol that was not offered", { "sec-websocket-protocol": "v9" }, "4.1"],
    ["two subprotocols", { "sec-websocket-protocol": "v1, v2" }, "4.3"],
    ["no subprotocol", { "sec-websocket-protocol": undefined }, "4.1"],
    ["an extension that was not offered", { "sec-websocket-extensions": "permessage-deflate" }, "4.1"],
    ["malformed extensions", { "sec-websocket-extensions": "a;;b" }, "9.1"]
  ]

  it.effect.each(wrong)("%s: BadUpgrade, and the socket is dropped", ([, changes, section]) =>
    Effect.gen(function*() {
      const nextRequest = yield* WebSocketProbe.listen()
      const failing = yield* start(failure("ws://localhost", { subprotocols: ["v1", "v2"] }))
      const { accept } = yield* nextRequest
      const probe = yield* accept({ subprotocol: "v1", headers: changes })
      const reason = yield* Fiber.join(failing)
      if (reason._tag !== "BadUpgrade") return assert.fail(reason._tag)
      assert.strictEqual(reason.section, section)
      assert.isAbove(reason.detail.length, 0)
      yield* probe.expectEnd
    }).pipe(withNetwork))
})

describe("an option that makes no sense", () => {
  it.effect.each([{ closeTimeout: "soon" }, { heartbeat: { interval: "soon" } }])(
    "is a defect, and leaves no socket behind: %o",
    (options) =>
      Effect.gen(function*() {
        const nextRequest = yield* WebSocketProbe.listen()
        const connecting = yield* start(
          Effect.exit(
            Effect.scoped(WebSocketClient.connect("ws://localhost", options as WebSocketClient.ConnectOptions))
          )
        )
        const { accept } = yield* nextRequest
        const probe = yield* accept()
        assert.isTrue(Exit.hasDies(yield* Fiber.join(connecting)))
        yield* probe.expectEnd
      }).pipe(withNetwork)
  )
})

describe("what the server sees of the client", () => {
  it.effect("is the request of section 4.1, with what was asked for, and never what is the handshake's own", () =>
    Effect.gen(function*() {
      const nextRequest = yield* WebSocketProbe.listen()
      const connecting = yield* start(WebSocketClient.connect("ws://server.test:8080/a/b?c=d", {
        headers: { "Authorization": "Bearer t", "Host": "elsewhere", "Sec-WebSocket-Version": "8" },
        subprotocols: ["v1", "v2"]
      }))
      const { accept, headers, url } = yield* nextRequest
      const { "sec-websocket-key": key = "", ...others } = headers
      assert.strictEqual(url, "/a/b?c=d")
      assert.strictEqual(Buffer.from(key, "base64").length, 16)
      assert.deepStrictEqual(others, {
        "authorization": "Bearer t",
        "connection": "Upgrade",
        "host": "server.test:8080",
        "sec-websocket-protocol": "v1, v2",
        "sec-websocket-version": "13",
        "upgrade": "websocket"
      })
      const probe = yield* accept({ subprotocol: "v2" })
      yield* Fiber.join(connecting)
      yield* probe.reset
    }).pipe(withNetwork))
})

describe("a request that cannot be made", () => {
  it.effect.each([
    "",
    "127.0.0.1:8080",
    "/path",
    "http://127.0.0.1/",
    "ws://",
    "ws://a b/",
    "ws://127.0.0.1:99999/",
    "ws://127.0.0.1/#fragment",
    "ws://127.0.0.1/#"
  ])("%j: InvalidUrl (RFC 6455, section 3)", (url) =>
    Effect.gen(function*() {
      const reason = yield* failure(url)
      assert.strictEqual(reason._tag === "InvalidUrl" && reason.url, url)
    }).pipe(withNetwork))

  it.effect.each<readonly [name: string, subprotocols: ReadonlyArray<string>]>([
    ["an empty subprotocol", [""]],
    ["a subprotocol with a space", ["a b"]],
    ["a subprotocol with a comma", ["a,b"]],
    ["a subprotocol twice", ["a", "b", "a"]]
  ])("%s: InvalidRequest (RFC 6455, section 4.1)", ([, subprotocols]) =>
    Effect.gen(function*() {
      assert.strictEqual((yield* failure("ws://localhost", { subprotocols }))._tag, "InvalidRequest")
    }).pipe(withNetwork))
})
