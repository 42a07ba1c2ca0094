import { HandshakeRequest, type Message, WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { AddressInfo } from "node:net"
import * as Ws from "ws"
import { handOver, start } from "./fixture.ts"
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

const connect = (url: string, subprotocols: ReadonlyArray<string> = []) =>
  Effect.acquireRelease(
    // The error that a terminated handshake reports is of no interest.
    Effect.sync(() => new Ws.WebSocket(url, [...subprotocols]).on("error", () => {})),
    (socket) => Effect.sync(() => socket.terminate())
  )

const client: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const { accept, serving } = yield* handOver({ subprotocols: spoken })
  const { url } = yield* start(serving)
  const socket = yield* connect(url, offered)
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

const server: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const listening = yield* listen({
    handleProtocols: (protocols) => spoken.find((protocol) => protocols.has(protocol)) ?? false
  })
  let peer: FramePeer | undefined
  listening.on("connection", (socket) => {
    peer = framePeer(socket)
  })
  const connection = yield* WebSocketClient.connect(urlOf(listening), { subprotocols: offered })
  if (peer === undefined) return yield* Effect.die(new Error("the server has no connection"))
  return { peer, connection }
}, Effect.provide(NodeWebSocketClient.layer))

matrix("ws as client", client)
frameMatrix("ws as client", client)
matrix("ws as server", server)
frameMatrix("ws as server", server)

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
