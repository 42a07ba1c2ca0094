import { WebSocketServer } from "@effect-ws/core"
import { NodeTransport, NodeWebSocketServer } from "@effect-ws/node"
import { Conformance } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import * as Ws from "ws"

/** Any server that echoes, by its URL. */
const endpointAt = (url: string): Conformance.Endpoint => ({
  role: "server",
  hasLimits: false,
  open: () =>
    Effect.callback((resume) => {
      const request = Http.request(url, {
        agent: false,
        headers: {
          upgrade: "websocket",
          connection: "Upgrade",
          "sec-websocket-version": "13",
          "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="
        }
      })
      request.on("upgrade", (_response, socket, head) => resume(Effect.succeed(NodeTransport.fromSocket(socket, head))))
      request.end()
    })
})

const failures = (results: ReadonlyArray<Conformance.Result>) =>
  results.flatMap((result) => result._tag === "Failed" ? [`${result.rule.title}: ${result.detail.split("\n")[0]}`] : [])

const Echo = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
)

describe("conformance over real sockets", () => {
  it.live("our server on Node keeps every rule", () =>
    Effect.gen(function*() {
      const { url } = yield* WebSocketServer.WebSocketServer
      const results = yield* Conformance.run(endpointAt(url.replace("ws:", "http:")))
      assert.deepStrictEqual(failures(results), [])
      assert.isAtLeast(results.filter(({ _tag }) => _tag === "Passed").length, 200)
    }).pipe(Effect.provide(Layer.provideMerge(Echo, NodeWebSocketServer.layer({ port: 0 })))), 60_000)

  it.live("a foreign server is held against the rules too (ws)", () =>
    Effect.gen(function*() {
      const server = yield* Effect.acquireRelease(
        Effect.callback<Ws.WebSocketServer>((resume) => {
          const server = new Ws.WebSocketServer({ port: 0, host: "127.0.0.1" })
          server.on("listening", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      server.on("connection", (socket) => {
        socket.on("error", () => {})
        socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }))
      })
      const results = yield* Conformance.run(
        endpointAt(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
        { closing: Conformance.rules["closing"]!, fragmentation: Conformance.rules["fragmentation"]! }
      )
      assert.deepStrictEqual(failures(results), [])
      assert.isAtLeast(results.filter(({ _tag }) => _tag === "Passed").length, 60)
    }), 60_000)
})
