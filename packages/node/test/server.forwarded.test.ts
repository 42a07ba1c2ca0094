import { type HandshakeRequest, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Option, Queue } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { request as httpRequest } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { certificates } from "./certificates.ts"
import { echo, start } from "./fixture.ts"
import { connectRaw, connectTls, openingRequest, type RawPeer, response, sampleKey } from "./rawPeer.ts"

type Options = Partial<NodeWebSocketServer.Options>

/** A server that keeps what its hook sees. */
const seeing = Effect.fnUntraced(function*(options: Options) {
  const requests = yield* Queue.unbounded<HandshakeRequest.HandshakeRequest>()
  const serving = WebSocketServer.serve((connection) => connection.closed, {
    handshake: (request: HandshakeRequest.HandshakeRequest) =>
      Effect.as(Queue.offer(requests, request), { data: undefined })
  })
  const { port } = yield* start(serving, options)
  const ask = Effect.fnUntraced(function*(peer: RawPeer, headers: Readonly<Record<string, string>>) {
    yield* peer.send(openingRequest({ headers }))
    assert.strictEqual((yield* response(peer)).status, 101)
    const { clientAddress, host, secure } = yield* Queue.take(requests)
    return [Option.getOrUndefined(clientAddress), host, secure] as const
  })
  return { ask, port, requests }
})

const fromClient = {
  "X-Forwarded-For": "6.6.6.6, 198.51.100.1",
  "X-Forwarded-Host": "chat.example",
  "X-Forwarded-Proto": "https"
}

describe("behind a proxy, the hook sees the client", () => {
  it.live("if the proxy is trusted", () =>
    Effect.gen(function*() {
      const { ask, port } = yield* seeing({ trustedProxies: { addresses: ["127.0.0.0/8"] } })
      const peer = yield* connectRaw(port)
      assert.deepStrictEqual(yield* ask(peer, fromClient), ["198.51.100.1", "chat.example", true])
    }))

  it.live("by RFC 7239, if the proxies speak that", () =>
    Effect.gen(function*() {
      const { ask, port } = yield* seeing({ trustedProxies: { addresses: ["127.0.0.1"], headers: "forwarded" } })
      const headers = {
        ...fromClient,
        Forwarded: "for=unknown;host=evil.example, for=\"[2001:db8::1]:99\";host=a.example;proto=https"
      }
      assert.deepStrictEqual(yield* ask(yield* connectRaw(port), headers), ["2001:db8::1", "a.example", true])
    }))

  it.live("on a socket that takes both families of addresses", () =>
    Effect.gen(function*() {
      const { ask, port } = yield* seeing({ host: "::", trustedProxies: { addresses: ["127.0.0.1"] } })
      const peer = yield* connectRaw(port)
      assert.deepStrictEqual(yield* ask(peer, fromClient), ["198.51.100.1", "chat.example", true])
    }))

  it.live.skipIf(process.platform === "win32")("at a Unix socket", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-ws-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const socketPath = join(folder, "app.sock")
      const { requests } = yield* seeing({ socketPath, trustedProxies: { addresses: ["unix"] } })
      yield* Effect.acquireRelease(
        Effect.callback<() => void>((resume) => {
          const headers = {
            ...fromClient,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": sampleKey,
            "Sec-WebSocket-Version": "13"
          }
          const request = httpRequest({ socketPath, headers })
          request.on("upgrade", (_, socket) => resume(Effect.succeed(() => socket.destroy())))
          request.end()
        }),
        (drop) => Effect.sync(drop)
      )
      const { clientAddress } = yield* Queue.take(requests)
      assert.deepStrictEqual(clientAddress, Option.some("198.51.100.1"))
    }))

  it.live("and nothing is believed of anybody else, or by default", () =>
    Effect.gen(function*() {
      const all: ReadonlyArray<Options> = [{}, { trustedProxies: { addresses: ["10.0.0.0/8", "::1", "unix"] } }]
      for (const options of all) {
        const { ask, port } = yield* seeing(options)
        const headers = { ...fromClient, Forwarded: "for=198.51.100.1" }
        assert.deepStrictEqual(yield* ask(yield* connectRaw(port), headers), ["127.0.0.1", "127.0.0.1", false])
      }
    }))

  it.live("without a proxy, TLS on the socket is what is secure", () =>
    Effect.gen(function*() {
      const { server: tls } = yield* certificates
      const { ask, port } = yield* seeing({ tls })
      assert.deepStrictEqual(yield* ask(yield* connectTls(port), fromClient), ["127.0.0.1", "127.0.0.1", true])
    }))
})

describe("the same origin is that of the host that the client asked for", () => {
  const trustedProxies = { addresses: ["127.0.0.1"] }
  const headers = { ...fromClient, Origin: "https://chat.example" }

  it.live.each<readonly [name: string, status: number, options: Options, headers: Readonly<Record<string, string>>]>([
    ["as a trusted proxy tells it", 101, { trustedProxies }, headers],
    ["as a trusted proxy tells it, not as the page says", 403, { trustedProxies }, {
      ...headers,
      Origin: "https://evil.example"
    }],
    ["and not the one that the proxy asked for", 403, { trustedProxies }, { ...headers, Origin: "http://127.0.0.1" }],
    ["but anybody may claim a host", 403, {}, headers],
    ["and anybody else than the proxy", 403, { trustedProxies: { addresses: ["10.0.0.1"] } }, headers]
  ])("%s", ([, status, options, headers]) =>
    Effect.gen(function*() {
      const { port } = yield* start(echo, options)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest({ headers }))
      assert.strictEqual((yield* response(peer)).status, status)
    }))

  it.live("or that its target names (RFC 7230, section 5.4)", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      for (const [target, status] of [["http://chat.example/", 101], ["http://other.example/", 403]] as const) {
        const peer = yield* connectRaw(port)
        yield* peer.send(openingRequest({ target, headers: { Origin: "https://chat.example" } }))
        assert.strictEqual((yield* response(peer)).status, status)
      }
    }))
})

describe("what a trusted proxy forwards", () => {
  it.live("is answered 400 if nobody can read it, and ignored from others", () =>
    Effect.gen(function*() {
      for (const [address, status] of [["127.0.0.1", 400], ["10.0.0.1", 101]] as const) {
        const { port } = yield* start(echo, { trustedProxies: { addresses: [address], headers: "forwarded" } })
        const peer = yield* connectRaw(port)
        yield* peer.send(openingRequest({ headers: { Forwarded: "for=\"198.51.100.1" } }))
        assert.strictEqual((yield* response(peer)).status, status)
      }
    }))

  it.live("and a proxy that is no address is a mistake that the layer dies of", () =>
    Effect.gen(function*() {
      const layer = NodeWebSocketServer.layer({ port: 0, trustedProxies: { addresses: ["10.0.0.1/8"] } })
      const exit = yield* Effect.exit(Effect.scoped(Layer.build(layer)))
      assert.isTrue(Exit.isFailure(exit) && Cause.pretty(exit.cause).includes("10.0.0.1/8"))
    }))
})
