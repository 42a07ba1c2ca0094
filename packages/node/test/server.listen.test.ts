import { WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Option, Scope } from "effect"
import { echo, handOver, start } from "./fixture.ts"
import { listenRaw } from "./rawPeer.ts"

const failure = (options: NodeWebSocketServer.Options) =>
  Effect.flip(Effect.scoped(Layer.build(NodeWebSocketServer.layer(options))))

describe("listening", () => {
  it.live("port 0 is a free port, and the address tells which", () =>
    Effect.gen(function*() {
      const one = yield* start(echo)
      const two = yield* start(echo)
      assert.strictEqual(one.server.address._tag, "Tcp")
      assert.notStrictEqual(one.port, two.port)
      assert.isAbove(one.port, 0)
    }))

  it.live("at an IPv6 address, reached by a URL with brackets (RFC 3986, section 3.2.2)", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port, server } = yield* start(serving, { host: "::1" })
      assert.deepStrictEqual(server.address, { _tag: "Tcp", host: "::1", port })
      const client = yield* WebSocketClient.connect(`ws://[::1]:${port}/path`)
      const connection = yield* accept
      assert.strictEqual(connection.request.headers["host"], `[::1]:${port}`)
      assert.deepStrictEqual(connection.localAddress, Option.some({ _tag: "Tcp", host: "::1", port }))
      assert.deepStrictEqual(client.peerAddress, connection.localAddress)
      assert.deepStrictEqual(client.localAddress, connection.peerAddress)
      assert.isTrue(Option.isSome(client.localAddress))
    }).pipe(Effect.provide(NodeWebSocketClient.layer)))

  it.live("the addresses of a connection outlive it", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port, url } = yield* start(serving)
      const client = yield* WebSocketClient.connect(url)
      const connection = yield* accept
      yield* client.close()
      yield* connection.closed
      assert.deepStrictEqual(connection.localAddress, Option.some({ _tag: "Tcp", host: "127.0.0.1", port }))
      assert.deepStrictEqual(client.peerAddress, connection.localAddress)
      assert.deepStrictEqual(client.localAddress, connection.peerAddress)
      assert.isTrue(Option.isSome(client.localAddress))
    }).pipe(Effect.provide(NodeWebSocketClient.layer)))

  it.live("on a port that is taken fails with AddressInUse", () =>
    Effect.gen(function*() {
      const { port } = yield* listenRaw
      const error = yield* failure({ port })
      assert.strictEqual(error._tag, "ListenError")
      assert.strictEqual(error.reason._tag, "AddressInUse")
      assert.deepStrictEqual(error.address, { _tag: "Tcp", host: "127.0.0.1", port })
    }))

  it.live.each<readonly [name: string, options: { readonly port: number; readonly host: string }]>([
    ["an address of another machine", { port: 0, host: "192.0.2.1" }],
    ["a host without an address", { port: 0, host: `${"a".repeat(64)}.invalid` }],
    ["a port beyond the range", { port: 65536, host: "127.0.0.1" }],
    ["a port that is no integer", { port: 0.5, host: "127.0.0.1" }]
  ])("at %s fails with ListenFailed", ([, options]) =>
    Effect.gen(function*() {
      const error = yield* failure(options)
      assert.strictEqual(error.reason._tag, "ListenFailed")
      assert.deepStrictEqual(error.address, { _tag: "Tcp", ...options })
    }))

  it.live.each([25, 1001, 0.5, Infinity])(
    "takes a handshake timeout of %s ms",
    (handshakeTimeout) =>
      Effect.gen(function*() {
        const { url } = yield* start(echo, { handshakeTimeout })
        assert.include(url, "127.0.0.1")
      })
  )

  it.live("leaves the port free behind it", () =>
    Effect.gen(function*() {
      const talk = Effect.fnUntraced(function*(port: number) {
        const server = yield* start(echo, { port })
        const connection = yield* WebSocketClient.connect(server.url)
        yield* connection.send("hello")
        assert.strictEqual(yield* connection.receive, "hello")
        return server.port
      }, Effect.scoped)
      const port = yield* talk(0)
      assert.deepStrictEqual([yield* talk(port), yield* talk(port)], [port, port])
    }).pipe(Effect.provide(NodeWebSocketClient.layer)))

  it.live("accepts nobody any more once it is released", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { url } = yield* Scope.provide(start(echo), scope)
      yield* Scope.close(scope, Exit.void)
      const error = yield* Effect.flip(WebSocketClient.connect(url))
      assert.strictEqual(error.reason._tag, "ConnectionRefused")
    }).pipe(Effect.provide(NodeWebSocketClient.layer)))
})
