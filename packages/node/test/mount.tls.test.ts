import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketAdopter, NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import * as NodeWebSocketRoute from "@effect-ws/node/NodeWebSocketRoute"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Queue, Stream } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import * as Https from "node:https"
import type { AddressInfo } from "node:net"
import * as Tls from "node:tls"
import { certificates } from "./certificates.ts"
import { echo, withTlsClient } from "./fixture.ts"
import { connectTls, frame, openingRequest } from "./rawPeer.ts"

const listenTls = Effect.gen(function*() {
  const { server: tls } = yield* certificates
  const accepted = yield* Queue.unbounded<Tls.TLSSocket>()
  const server = Tls.createServer(tls, (socket) => Queue.offerUnsafe(accepted, socket.pause()))
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  )
  return { accept: Queue.take(accepted), port: (server.address() as AddressInfo).port }
})

/** What has to work over any socket: an echo both ways, of little and of much. */
const converse = Effect.fnUntraced(function*(connecting: ReturnType<typeof NodeWebSocketClient.fromSocket>) {
  const connection = yield* connecting
  for (const message of ["hello", "x".repeat(1_000_000)]) {
    yield* connection.send(message)
    assert.strictEqual(yield* connection.receive, message)
  }
  yield* connection.close()
  assert.isTrue((yield* connection.closed).wasClean)
})

describe("over TLS", () => {
  it.live("a socket is adopted on one side, and connected over on the other", () =>
    Effect.gen(function*() {
      const { authority } = yield* certificates
      const { accept, port } = yield* listenTls
      const adopting = NodeWebSocketAdopter.layer({ address: { _tag: "Tcp", host: "127.0.0.1", port }, secure: true })
      const context = yield* Layer.build(Layer.provideMerge(echo, adopting))
      assert.strictEqual(Context.get(context, WebSocketServer.WebSocketServer).url, `wss://127.0.0.1:${port}`)
      const { adopt } = Context.get(context, NodeWebSocketAdopter.SocketAdopter)
      yield* Effect.forkChild(Effect.flatMap(accept, (socket) => adopt(socket)))
      const socket = Tls.connect({ port, host: "127.0.0.1", ca: authority.cert })
      yield* converse(NodeWebSocketClient.fromSocket(socket, "wss://localhost"))
    }).pipe(Effect.scoped))

  it.live("an https.Server is mounted on", () =>
    Effect.gen(function*() {
      const { authority, server: tls } = yield* certificates
      const http = yield* Effect.acquireRelease(
        Effect.callback<Https.Server>((resume) => {
          const server = Https.createServer(tls).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
      )
      yield* Layer.build(Layer.provide(echo, NodeWebSocketServer.layerFromHttpServer(Effect.succeed(http))))
      const url = `wss://127.0.0.1:${(http.address() as AddressInfo).port}`
      yield* converse(WebSocketClient.connect(url).pipe(withTlsClient({ ca: authority.cert })))
    }).pipe(Effect.scoped))

  it.live("a route of Effect's HTTP server is reached, and loses no frame behind the request", () =>
    Effect.gen(function*() {
      const { authority, server: tls } = yield* certificates
      const route = NodeWebSocketRoute.upgrade((connection) =>
        Stream.runForEach(connection.messages, (message) => connection.send(message))
      )
      const context = yield* Layer.build(Layer.provideMerge(
        HttpRouter.serve(HttpRouter.add("GET", "/", route), { disableListenLog: true, disableLogger: true }),
        NodeWebSocketRoute.layerHttpServer(() => Https.createServer(tls), { port: 0, host: "127.0.0.1" })
      ))
      const { address } = Context.get(context, HttpServer.HttpServer)
      const port = "port" in address ? Number(address.port) : NaN
      yield* converse(WebSocketClient.connect(`wss://127.0.0.1:${port}`).pipe(withTlsClient({ ca: authority.cert })))

      const peer = yield* connectTls(port)
      yield* peer.send(openingRequest(), frame("text", "early"))
      yield* peer.head
      assert.strictEqual((yield* peer.frame).payload.toString(), "early")
    }).pipe(Effect.scoped))
})
