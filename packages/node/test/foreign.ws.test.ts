import { type Connection, HandshakeRequest, type Message, WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Https from "node:https"
import type { AddressInfo } from "node:net"
import * as Ws from "ws"
import { certificates } from "./certificates.ts"
import { handOver, start, withTlsClient } from "./fixture.ts"
import { frameMatrix, type FramePeer, matrix, type Open, standardPeer } from "./foreignPeer.ts"

const framePeer = (socket: Ws.WebSocket): FramePeer => {
  const send = (data: Message.Message, fin: boolean) => Effect.sync(() => socket.send(data, { fin }))
  return {
    ...standardPeer(socket as unknown as WebSocket),
    sendFragments: (fragments) =>
      Effect.forEach(fragments, (fragment, i) => send(fragment, i === fragments.length - 1), { discard: true }),
    ping: (payload) =>
      Effect.callback<void>((resume) => {
        socket.on("pong", (data) => {
          if (data.toString() === payload) resume(Effect.void)
        })
        socket.ping(payload)
      })
  }
}

const connect = (url: string, subprotocols: ReadonlyArray<string> = [], options: Ws.ClientOptions = {}) =>
  Effect.acquireRelease(
    // The error that a terminated handshake reports is of no interest.
    Effect.sync(() => new Ws.WebSocket(url, [...subprotocols], options).on("error", () => {})),
    (socket) => Effect.sync(() => socket.terminate())
  )

const client: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const { accept, serving } = yield* handOver({ subprotocols: spoken })
  const { url } = yield* start(serving)
  return yield* join(yield* connect(url, offered), accept)
})

const secureClient: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const { authority, server: tls } = yield* certificates
  const { accept, serving } = yield* handOver({ subprotocols: spoken })
  const { url } = yield* start(serving, { tls })
  return yield* join(yield* connect(url, offered, { ca: authority.cert }), accept)
})

const join = Effect.fnUntraced(function*(socket: Ws.WebSocket, accept: Effect.Effect<Connection.Connection>) {
  const peer = framePeer(socket)
  yield* Effect.callback<void>((resume) => void socket.on("open", () => resume(Effect.void)))
  return { peer, connection: yield* accept }
})

const listen = (options: Ws.ServerOptions) =>
  Effect.acquireRelease(
    Effect.callback<Ws.WebSocketServer>((resume) => {
      const server = new Ws.WebSocketServer({ port: 0, host: "127.0.0.1", ...options })
      server.on("listening", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        for (const socket of server.clients) socket.terminate()
        server.close(() => resume(Effect.void))
      })
  )

const urlOf = (server: Ws.WebSocketServer) => `ws://127.0.0.1:${(server.address() as AddressInfo).port}`

const chooseFrom = (spoken: ReadonlyArray<string>) => (protocols: Set<string>) =>
  spoken.find((protocol) => protocols.has(protocol)) ?? false

const server: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const listening = yield* listen({ handleProtocols: chooseFrom(spoken) })
  return yield* meet(listening, urlOf(listening), offered)
}, Effect.provide(NodeWebSocketClient.layer))

const secureServer: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const { authority, server: tls } = yield* certificates
  const https = Https.createServer({ ...tls })
  const listening = new Ws.WebSocketServer({ server: https, handleProtocols: chooseFrom(spoken) })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void https.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.callback<void>((resume) => {
        for (const socket of listening.clients) socket.terminate()
        https.close(() => resume(Effect.void))
      })
  )
  return yield* meet(listening, urlOf(listening).replace("ws:", "wss:"), offered).pipe(
    withTlsClient({ ca: authority.cert })
  )
})

const meet = Effect.fnUntraced(function*(listening: Ws.WebSocketServer, url: string, offered: ReadonlyArray<string>) {
  let peer: FramePeer | undefined
  listening.on("connection", (socket) => {
    peer = framePeer(socket)
  })
  const connection = yield* WebSocketClient.connect(url, { subprotocols: offered })
  if (peer === undefined) return yield* Effect.die(new Error("the server has no connection"))
  return { peer, connection }
})

matrix("ws as client", client)
frameMatrix("ws as client", client)
matrix("ws as client, over TLS", secureClient)
frameMatrix("ws as client, over TLS", secureClient)
matrix("ws as server", server)
frameMatrix("ws as server", server)
matrix("ws as server, over TLS", secureServer)
frameMatrix("ws as server, over TLS", secureServer)

describe("ws as client", () => {
  it.live("sees the response to a rejected handshake (§4.2.2)", () =>
    Effect.gen(function*() {
      const rejection = { status: 401, headers: { "www-authenticate": "Bearer" }, body: "who are you?" }
      const { serving } = yield* handOver({
        handshake: () => Effect.fail(new HandshakeRequest.HandshakeRejected(rejection))
      })
      const { url } = yield* start(serving)
      const socket = yield* connect(url)
      const seen = yield* Effect.callback<unknown>((resume) => {
        socket.on("unexpected-response", (_, response) => {
          let body = ""
          response.on("data", (chunk) => {
            body += chunk
          })
          response.on("end", () => {
            const headers = { "www-authenticate": response.headers["www-authenticate"] }
            resume(Effect.succeed({ status: response.statusCode, headers, body }))
          })
        })
      })
      assert.deepStrictEqual(seen, rejection)
    }))
})

describe("ws as server", () => {
  it.live("rejects a handshake, and its response is the error (§4.1)", () =>
    Effect.gen(function*() {
      const listening = yield* listen({
        verifyClient: (_, done) => done(false, 403, "not you", { "x-reason": "unknown" })
      })
      const error = yield* Effect.flip(WebSocketClient.connect(urlOf(listening)))
      if (error.reason._tag !== "UpgradeRejected") return assert.fail(error.message)
      const { body, headers, status } = error.reason
      assert.deepStrictEqual([status, headers["x-reason"], body], [403, "unknown", "not you"])
    }).pipe(Effect.provide(NodeWebSocketClient.layer)))
})
