/**
 * Ways to end of connections whose server or socket is somebody else's.
 */
import { type Connection, HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeConnection, NodeWebSocketAdopter, NodeWebSocketClient } from "@effect-ws/node"
import * as NodeWebSocketRoute from "@effect-ws/node/NodeWebSocketRoute"
import { assert } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Stream } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { createServer } from "node:http"
import * as Net from "node:net"
import type { Ending } from "./endings.ts"
import { closeOf, connectRaw, frame, openingRequest, response, upgradeRaw } from "./rawPeer.ts"

const echo = (connection: Connection.Connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))

const Routes = Layer.mergeAll(
  HttpRouter.add("GET", "/echo", NodeWebSocketRoute.upgrade(echo)),
  HttpRouter.add("GET", "/fail", NodeWebSocketRoute.upgrade(() => Effect.fail("broken"))),
  HttpRouter.add(
    "GET",
    "/reject",
    NodeWebSocketRoute.upgrade(() => Effect.void, {
      handshake: (): Effect.Effect<{ readonly data: void }, HandshakeRequest.HandshakeRejected> =>
        new HandshakeRequest.HandshakeRejected({ status: 403, body: "no" })
    })
  ),
  HttpRouter.add(
    "GET",
    "/never",
    NodeWebSocketRoute.upgrade(() => Effect.void, {
      handshake: (): Effect.Effect<{ readonly data: void }> => Effect.never
    })
  )
)

const { connect } = WebSocketClient

/** All these endings, and the connections that the servers still know. */
export const make = Effect.gen(function*() {
  const context = yield* Layer.build(Layer.provideMerge(
    HttpRouter.serve(Routes, { disableListenLog: true, disableLogger: true }),
    NodeWebSocketRoute.layerHttpServer(createServer, { port: 0, host: "127.0.0.1" })
  ))
  const { address } = Context.get(context, HttpServer.HttpServer)
  const port = "port" in address ? Number(address.port) : NaN
  const url = `ws://127.0.0.1:${port}`

  const adopting = yield* WebSocketServer.serve(echo).pipe(
    Layer.provideMerge(NodeWebSocketAdopter.layer({ address: { _tag: "Unix", path: "/nowhere" } })),
    Layer.build
  )
  const { adopt } = Context.get(adopting, NodeWebSocketAdopter.SocketAdopter)
  const { connections } = Context.get(adopting, WebSocketServer.WebSocketServer)

  // Sockets that nobody has said anything over, by the port of their peer.
  const accepted = new Map<number | undefined, Deferred.Deferred<Net.Socket>>()
  const acceptedFrom = (port: number | undefined) => {
    const socket = accepted.get(port) ?? Deferred.makeUnsafe<Net.Socket>()
    accepted.set(port, socket)
    return socket
  }
  const listener = yield* Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer({ pauseOnConnect: true }, (socket) => {
        Deferred.doneUnsafe(acceptedFrom(socket.remotePort), Effect.succeed(socket))
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  )
  const pair = Effect.gen(function*() {
    const peer = yield* connectRaw((listener.address() as Net.AddressInfo).port)
    const { localPort } = peer.socket
    const socket = yield* Deferred.await(acceptedFrom(localPort))
    accepted.delete(localPort)
    return { peer, socket }
  })

  const request = Effect.fnUntraced(function*(target: string) {
    const peer = yield* connectRaw(port)
    yield* peer.send(openingRequest({ target }))
    return peer
  })

  const endings = {
    "route: closed by the client": Effect.gen(function*() {
      const connection = yield* connect(`${url}/echo`)
      yield* connection.send("a")
      yield* connection.receive
      yield* connection.close()
    }),
    "route: aborted by the client": Effect.flatMap(connect(`${url}/echo`), (connection) => connection.abort),
    "route: handler fails": Effect.gen(function*() {
      const connection = yield* connect(`${url}/fail`)
      assert.strictEqual((yield* connection.closed).code, 1011)
    }),
    "route: rejected": Effect.gen(function*() {
      const { reason } = yield* Effect.flip(connect(`${url}/reject`))
      assert.strictEqual(reason._tag, "UpgradeRejected")
    }),
    "route: client resets": Effect.flatMap(upgradeRaw(port, "/echo"), (peer) => peer.reset),
    "route: client ends without a Close": Effect.flatMap(
      upgradeRaw(port, "/echo"),
      (peer) => Effect.andThen(peer.end, peer.rest)
    ),
    "route: client breaks a rule": Effect.gen(function*() {
      const peer = yield* upgradeRaw(port, "/echo")
      yield* peer.send(frame("text", "a", { masked: false }))
      assert.strictEqual(closeOf(yield* peer.frame)?.code, 1002)
    }),
    "route: client resets with its request": Effect.flatMap(request("/echo"), (peer) => peer.reset),
    "route: client resets during the hook": Effect.flatMap(request("/never"), (peer) => peer.reset),
    "route: client ends during the hook": Effect.flatMap(
      request("/never"),
      (peer) => Effect.andThen(peer.end, peer.rest)
    ),
    "adopted: closed by the peer's end": Effect.gen(function*() {
      const { peer, socket } = yield* pair
      yield* adopt(socket, { initialData: Buffer.from(openingRequest()) })
      yield* peer.head
      yield* peer.end
      yield* peer.rest
    }),
    "adopted: reset within the request": Effect.gen(function*() {
      const { peer, socket } = yield* pair
      yield* adopt(socket, { initialData: Buffer.from("GET / HTTP/1.1\r\nHo") })
      yield* peer.reset
    }),
    "adopted: plain HTTP": Effect.gen(function*() {
      const { peer, socket } = yield* pair
      yield* adopt(socket)
      yield* peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      assert.strictEqual((yield* response(peer)).status, 426)
      yield* peer.rest
    }),
    "upgraded already: closed with its scope": Effect.gen(function*() {
      const { peer, socket } = yield* pair
      yield* NodeConnection.fromUpgraded(socket, { role: "server", closeTimeout: "20 millis" })
      yield* peer.send(frame("text", "a"))
    }),
    "connected over a socket: interrupted": Effect.gen(function*() {
      const { peer, socket } = yield* pair
      const fiber = yield* Effect.forkChild(Effect.scoped(NodeWebSocketClient.fromSocket(socket, "ws://a")))
      yield* peer.head
      yield* Fiber.interrupt(fiber)
    }),
    "connected over a socket: refused": Effect.gen(function*() {
      const { peer, socket } = yield* pair
      const fiber = yield* Effect.forkChild(Effect.flip(NodeWebSocketClient.fromSocket(socket, "ws://a")))
      yield* peer.head
      yield* peer.send("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "UpgradeRejected")
    })
  }
  return { endings: Object.entries<Ending[1]>(endings), connections: Effect.map(connections, ({ length }) => length) }
})
