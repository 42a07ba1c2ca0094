/**
 * Ways to end of connections that lead through proxies or redirects.
 */
import { HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import * as Net from "node:net"
import { certificates } from "./certificates.ts"
import type { Ending } from "./endings.ts"
import { echo, start } from "./fixture.ts"
import { startHttpProxy, startSocksProxy } from "./proxies.ts"

// What a broken proxy does with a request.
const strange = (act: (socket: Net.Socket) => void) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        const server = Net.createServer((socket) => {
          socket.on("error", () => {})
          socket.once("data", () => act(socket))
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
    ),
    (server) => `127.0.0.1:${(server.address() as Net.AddressInfo).port}`
  )

const Moved = WebSocketServer.serve(() => Effect.void, {
  path: "/moved",
  handshake: () => new HandshakeRequest.HandshakeRejected({ status: 307, headers: { location: "/" } })
})
const Loop = WebSocketServer.serve(() => Effect.void, {
  path: "/loop",
  handshake: () => new HandshakeRequest.HandshakeRejected({ status: 307, headers: { location: "/loop" } })
})

/** All these endings, and the connections that the servers still know. */
export const make = Effect.gen(function*() {
  const { authority: { cert: ca }, server: tls } = yield* certificates
  const plain = yield* start(Layer.mergeAll(echo, Moved, Loop))
  const secure = yield* start(echo, { tls })
  const proxies = {
    "HTTP proxy": (yield* startHttpProxy()).url,
    "HTTPS proxy": (yield* startHttpProxy(tls)).url,
    "SOCKS proxy": yield* startSocksProxy
  }
  const silent = yield* strange((socket) => socket.resume())
  const rude = yield* strange((socket) => socket.destroy())
  const garbled = yield* strange((socket) => socket.end("what?\r\n\r\n"))
  const denying = yield* strange((socket) => socket.write("HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno!"))
  const scope = yield* Effect.scope

  const clientOf = (proxy: string) =>
    Effect.map(
      Layer.buildWithScope(
        Layer.orDie(NodeWebSocketClient.layerWith({ proxy, tls: { ca }, proxyTls: { ca } })),
        scope
      ),
      (client) => (url: string, options?: WebSocketClient.ConnectOptions) =>
        Effect.provideContext(WebSocketClient.connect(url, options), client)
    )

  let count = 0
  const interruptSoon = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
    const fiber = yield* Effect.forkChild(Effect.scoped(effect))
    // A little later each time, and then from the beginning.
    yield* Effect.sleep((count++ * 0.3) % 8)
    yield* Fiber.interrupt(fiber)
  })

  const endings: Array<Ending> = [
    [
      "redirected",
      Effect.flatMap(WebSocketClient.connect(`${plain.url}/moved`, { maxRedirects: 1 }), (it) => it.close())
    ],
    ["redirected without end", Effect.flip(WebSocketClient.connect(`${plain.url}/loop`, { maxRedirects: 3 }))],
    [
      "redirected, interrupted at any moment",
      interruptSoon(WebSocketClient.connect(`${plain.url}/loop`, { maxRedirects: 100 }))
    ]
  ]
  for (const [name, proxy] of Object.entries(proxies)) {
    const connect = yield* clientOf(proxy)
    for (const { url } of [plain, secure]) {
      const at = `${url.slice(0, url.indexOf(":"))} through an ${name}`
      endings.push(
        [`${at}, closed`, Effect.flatMap(connect(url), (connection) => connection.close())],
        [`${at}, aborted`, Effect.flatMap(connect(url), (connection) => connection.abort)],
        [`${at}, interrupted at any moment`, interruptSoon(Effect.flatMap(connect(url), ({ receive }) => receive))]
      )
    }
    endings.push([`nobody behind an ${name}`, Effect.flip(connect("ws://127.0.0.1:1"))])
  }
  const failing = {
    [`http://${silent}`]: "ConnectTimeout",
    [`https://${silent}`]: "ConnectTimeout",
    [`socks5://${silent}`]: "ConnectTimeout",
    [`http://${rude}`]: "ProxyFailure",
    [`https://${rude}`]: "ProxyUnreachable",
    [`socks5://${rude}`]: "ProxyFailure",
    [`http://${garbled}`]: "ProxyFailure",
    [`https://${garbled}`]: "ProxyUnreachable",
    [`socks5://${garbled}`]: "ProxyFailure",
    [`http://${denying}`]: "ProxyRefused",
    ["http://127.0.0.1:1"]: "ProxyUnreachable",
    ["socks5://127.0.0.1:1"]: "ProxyUnreachable"
  }
  for (const [proxy, tag] of Object.entries(failing)) {
    const connect = yield* clientOf(proxy)
    const connectTimeout = tag === "ConnectTimeout" ? "20 millis" : "10 seconds"
    endings.push([
      `${tag} of ${proxy}`,
      Effect.map(
        Effect.flip(connect("ws://127.0.0.1:1", { connectTimeout })),
        ({ reason }) => assert.strictEqual(reason._tag, tag)
      )
    ])
  }

  return {
    endings,
    connections: Effect.map(
      Effect.all([plain.server.connections, secure.server.connections]),
      (connections) => connections.flat().length
    )
  }
})
