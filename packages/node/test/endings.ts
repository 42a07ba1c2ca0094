/**
 * Every way in which a connection, or an attempt at one, can end.
 */
import { type Connection, HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { assert } from "@effect/vitest"
import { Cause, Context, Data, Deferred, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import { createHash } from "node:crypto"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { certificates } from "./certificates.ts"
import {
  brokenRecord,
  carrierOf,
  closeFrame,
  closeOf,
  connectRaw,
  frame,
  openingRequest,
  RawPeer,
  response,
  upgradeRaw
} from "./rawPeer.ts"

class HandlerFailed extends Data.TaggedError("HandlerFailed") {}

const hold = (connection: Connection.Connection) => connection.closed
const echo = (connection: Connection.Connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))

// What a server does, by path.
const handlers: Record<string, (connection: Connection.Connection) => Effect.Effect<unknown, unknown, Scope.Scope>> = {
  "/hold": hold,
  "/echo": echo,
  "/return": () => Effect.void,
  "/close": (connection) => connection.close(4000, "bye"),
  "/abort": (connection) => connection.abort,
  "/fail": () => new HandlerFailed(),
  "/die": () => Effect.die("a defect"),
  "/interrupt": () => Effect.interrupt
}
const hooks: Record<string, Effect.Effect<never, HandshakeRequest.HandshakeRejected>> = {
  "/reject": new HandshakeRequest.HandshakeRejected({ status: 403, body: "no" }),
  "/broken": Effect.die("a defect"),
  "/never": Effect.never
}

const Handlers = Layer.mergeAll(
  Layer.empty,
  ...Object.entries(handlers).map(([path, handler]) => WebSocketServer.serve(handler, { path })),
  ...Object.entries(hooks).map(([path, hook]) => WebSocketServer.serve(hold, { path, handshake: () => hook }))
)

const serve = Effect.fnUntraced(function*(options: Partial<NodeWebSocketServer.Options>) {
  const context = yield* Layer.build(
    Handlers.pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0, ...options })))
  )
  const server = Context.get(context, WebSocketServer.WebSocketServer)
  const port = server.address._tag === "Tcp" ? server.address.port : NaN
  return { server, port, url: server.url }
})

// What a foreign server does with a request, by target.
const upgraded = (request: string): string => {
  const key = /^sec-websocket-key: *(.*)\r$/im.exec(request)?.[1]
  const digest = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64")
  return `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${digest}\r\n\r\n`
}
const unmasked = { masked: false } as const
const strangers: Record<string, (socket: Net.Socket, request: string) => void> = {
  "/silent": (socket, request) => socket.write(upgraded(request)),
  // It would not notice the end either.
  "/deaf": (socket, request) => socket.pause().setTimeout(500, () => socket.destroy()).write(upgraded(request)),
  "/reset": (socket, request) => socket.write(upgraded(request), () => socket.resetAndDestroy()),
  "/end": (socket, request) => socket.end(upgraded(request)),
  "/torn": (socket, request) => {
    socket.write(upgraded(request))
    socket.end(frame("text", "half of a message", unmasked).subarray(0, 8))
  },
  "/close": (socket, request) => {
    socket.write(upgraded(request))
    socket.write(closeFrame(4001, "bye", unmasked))
  },
  "/violation": (socket, request) => {
    socket.write(upgraded(request))
    socket.write(frame("text", "masked"))
  },
  "/latin": (socket, request) => {
    socket.write(upgraded(request))
    socket.write(frame("text", Buffer.from([0xe4]), unmasked))
  },
  "/oversized": (socket, request) => {
    socket.write(upgraded(request))
    socket.write(frame("binary", Buffer.alloc(5000), unmasked))
  },
  "/mute": () => {},
  "/hangup": (socket) => socket.destroy(),
  "/half": (socket) => socket.end("HTTP/1.1 101 Switching Protocols\r\nUpgr"),
  "/wrong": (socket) => socket.write(upgraded("Sec-WebSocket-Key: another\r\n")),
  "/refuse": (socket) => socket.write("HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nsigh"),
  "/garbage": (socket) => socket.write("what?\r\n\r\n")
}

const listenStrange = Effect.map(
  Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer((socket) => {
        socket.on("error", () => {})
        let request = ""
        socket.on("data", function onData(chunk) {
          request += chunk.toString("latin1")
          if (!request.endsWith("\r\n\r\n")) return
          socket.off("data", onData)
          socket.resume()
          strangers[request.split(" ")[1]!]!(socket, request)
        })
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  ),
  (server) => `ws://127.0.0.1:${(server.address() as Net.AddressInfo).port}`
)

// A port that nobody listens at, and that the system gives to nobody who asks for any port.
const nobody = "ws://127.0.0.1:1"

const { connect } = WebSocketClient
const briefly = "20 millis"
const quick = { closeTimeout: briefly, heartbeat: { interval: briefly, timeout: briefly } } as const

/** One connection, or attempt at one, from its beginning to its end; with a name. */
export type Ending = readonly [string, Effect.Effect<unknown, unknown, Scope.Scope | WebSocketClient.WebSocketClient>]

/** The servers' connections, and all endings. */
export const make = Effect.gen(function*() {
  // One that has time, and one that has not.
  const patient = yield* serve({ closeTimeout: "1 minute" })
  const hasty = yield* serve(quick)
  const impatient = yield* serve({ handshakeTimeout: "50 millis" })
  const strange = yield* listenStrange
  // And over TLS.
  const { authority, server: tls } = yield* certificates
  const secure = yield* serve({ tls, closeTimeout: "1 minute" })
  const secureImpatient = yield* serve({ tls, handshakeTimeout: "50 millis" })
  const trusting = yield* Layer.build(Layer.orDie(NodeWebSocketClient.layerWith({ tls: { ca: authority.cert } })))
  const connectTrusting = (url: string, options?: WebSocketClient.ConnectOptions) =>
    Effect.provideContext(connect(url, options), trusting)

  const expectCode = (connection: Connection.Connection, code: number) =>
    Effect.map(connection.closed, (event) => assert.strictEqual(event.code, code))

  const expectFailure = (connection: Connection.Connection, tag: string) =>
    Effect.map(
      Effect.flip(Stream.runDrain(connection.messages)),
      ({ reason }) => assert.strictEqual(reason._tag, tag)
    )

  const expectRefusal = (url: string, tag: string, options?: WebSocketClient.ConnectOptions) =>
    Effect.map(Effect.flip(connect(url, options)), ({ reason }) => assert.strictEqual(reason._tag, tag))

  const expectClose = (peer: RawPeer, code: number) =>
    Effect.map(peer.frame, (frame) => assert.strictEqual(closeOf(frame)?.code, code))

  const expectStatus = (peer: RawPeer, status: number) =>
    Effect.map(response(peer), (response) => assert.strictEqual(response.status, status))

  const request = Effect.fnUntraced(function*(port: number, text: string | Uint8Array) {
    const peer = yield* connectRaw(port)
    yield* peer.send(text)
    return peer
  })

  let count = 0

  // A little later each time, and then from the beginning.
  const soon = Effect.suspend(() => Effect.sleep((count++ * 0.3) % 6))

  const interruptSoon = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(effect)
      yield* soon
      yield* Fiber.interrupt(fiber)
    })

  const endings = {
    // Both sides ours.
    "closed by the client": Effect.gen(function*() {
      const connection = yield* connect(`${patient.url}/hold`)
      yield* connection.close()
      assert.isTrue((yield* connection.closed).wasClean)
    }),
    "closed by the server": Effect.gen(function*() {
      const connection = yield* connect(`${patient.url}/close`)
      yield* expectFailure(connection, "PeerClosed")
      yield* expectCode(connection, 4000)
    }),
    "closed by both": Effect.gen(function*() {
      const connection = yield* connect(`${patient.url}/close`)
      yield* connection.close()
    }),
    "closed with the client's scope": connect(`${patient.url}/hold`),
    "closed amid an echo": Effect.gen(function*() {
      const connection = yield* connect(`${patient.url}/echo`)
      yield* connection.sendAll(["a", new Uint8Array(100_000), "b"])
      yield* connection.receive
    }),
    "closed with waiting fibers": Effect.gen(function*() {
      const connection = yield* connect(`${strange}/silent`, quick)
      const waiting = yield* Effect.forEach([
        Stream.runDrain(connection.messages),
        Stream.runDrain(connection.changes),
        Stream.runDrain(connection.controls),
        connection.ping,
        connection.sendStream(Stream.concat(Stream.make("half"), Stream.never))
      ], (effect: Effect.Effect<unknown, unknown>) => Effect.forkChild(Effect.exit(effect)))
      yield* Effect.yieldNow
      yield* connection.close()
      // A stream that is sent belongs to whoever sends it, and goes on.
      yield* Fiber.interrupt(waiting[4]!)
      yield* Fiber.joinAll(waiting.slice(0, 4))
    }),
    "aborted by the client": Effect.gen(function*() {
      const connection = yield* connect(`${patient.url}/hold`)
      yield* connection.abort
    }),
    "aborted by the handler": Effect.gen(function*() {
      const connection = yield* connect(`${patient.url}/abort`)
      yield* expectFailure(connection, "ConnectionLost")
    }),
    "handler returns": Effect.gen(function*() {
      const connection = yield* connect(`${patient.url}/return`)
      yield* Stream.runDrain(connection.messages)
      yield* expectCode(connection, 1000)
    }),
    "handler fails": Effect.flatMap(connect(`${patient.url}/fail`), (connection) => expectCode(connection, 1011)),
    "handler dies": Effect.flatMap(connect(`${patient.url}/die`), (connection) => expectCode(connection, 1011)),
    "handler interrupts itself": Effect.flatMap(
      connect(`${patient.url}/interrupt`),
      (connection) => expectCode(connection, 1001)
    ),
    "route released": Effect.gen(function*() {
      const path = `/released-${count++}`
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(WebSocketServer.serve(echo, { path }), scope).pipe(
        Effect.provideService(WebSocketServer.WebSocketServer, patient.server)
      )
      const connection = yield* connect(`${patient.url}${path}`)
      yield* Scope.close(scope, Exit.void)
      yield* expectCode(connection, 1001)
    }),
    "client fiber interrupted": Effect.gen(function*() {
      const isConnected = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(Effect.scoped(Effect.gen(function*() {
        const connection = yield* connect(`${patient.url}/echo`)
        yield* Deferred.succeed(isConnected, undefined)
        return yield* connection.receive
      })))
      yield* Deferred.await(isConnected)
      yield* Fiber.interrupt(fiber)
    }),
    "client fiber interrupted at any moment": interruptSoon(
      Effect.scoped(Effect.flatMap(connect(`${patient.url}/echo`), (connection) => connection.receive))
    ),
    "rejected": expectRefusal(`${patient.url}/reject`, "UpgradeRejected"),
    "rejected for a defect of the hook": expectRefusal(`${patient.url}/broken`, "UpgradeRejected"),
    "rejected for the path": expectRefusal(`${patient.url}/nowhere`, "UpgradeRejected"),
    // By whom depends on when the request arrives: by the server, or already by its HTTP parser.
    "rejected after the handshake timeout": Effect.flip(connect(`${impatient.url}/never`)),
    "connect timeout during the hook": expectRefusal(`${patient.url}/never`, "ConnectTimeout", {
      connectTimeout: briefly
    }),

    // Our server, and a foreign client.
    "client resets": Effect.flatMap(upgradeRaw(patient.port, "/echo"), (peer) => peer.reset),
    "client ends without a Close": Effect.flatMap(
      upgradeRaw(patient.port, "/echo"),
      (peer) => Effect.andThen(peer.end, peer.rest)
    ),
    "client ends inside a message": Effect.gen(function*() {
      const peer = yield* upgradeRaw(patient.port, "/echo")
      yield* peer.send(frame("text", "half of a message").subarray(0, 9))
      yield* peer.end
      yield* peer.rest
    }),
    "client resets after a Close": Effect.gen(function*() {
      const peer = yield* upgradeRaw(patient.port, "/echo")
      yield* peer.send(closeFrame(1000))
      yield* peer.reset
    }),
    "client sends an unmasked frame": Effect.gen(function*() {
      const peer = yield* upgradeRaw(patient.port, "/echo")
      yield* peer.send(frame("text", "a", unmasked))
      yield* expectClose(peer, 1002)
    }),
    "client sends too large a message": Effect.gen(function*() {
      const peer = yield* upgradeRaw(patient.port, "/echo")
      // The header of a frame of 16 MiB.
      yield* peer.send(Uint8Array.of(0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4))
      yield* expectClose(peer, 1009)
    }),
    "client ignores the Close": Effect.gen(function*() {
      const peer = yield* upgradeRaw(hasty.port, "/close")
      yield* expectClose(peer, 4000)
      yield* peer.rest
    }),
    "client answers no ping": Effect.flatMap(upgradeRaw(hasty.port, "/hold"), (peer) => peer.rest),
    "client resets during the hook": Effect.gen(function*() {
      const peer = yield* request(patient.port, openingRequest({ target: "/never" }))
      yield* soon
      yield* peer.reset
    }),
    "client ends during the hook": Effect.gen(function*() {
      const peer = yield* request(patient.port, openingRequest({ target: "/never" }))
      yield* soon
      yield* peer.end
    }),
    "client resets with its request": Effect.flatMap(
      request(patient.port, openingRequest({ target: "/echo" })),
      (peer) => peer.reset
    ),
    "client sends half a request": Effect.flatMap(request(patient.port, "GET / HTTP/1.1\r\nHo"), (peer) => peer.reset),
    "client never ends its request": Effect.flatMap(
      request(impatient.port, "GET / HTTP/1.1\r\nHo"),
      (peer) => peer.rest
    ),
    "client sends plain HTTP": Effect.flatMap(
      request(patient.port, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
      (peer) => expectStatus(peer, 426)
    ),
    "client sends a bad handshake": Effect.flatMap(
      request(patient.port, openingRequest({ headers: { "Sec-WebSocket-Version": "8" } })),
      (peer) => expectStatus(peer, 426)
    ),

    // Our client, and a foreign server.
    "server resets": Effect.flatMap(
      connect(`${strange}/reset`),
      (connection) => expectFailure(connection, "ConnectionLost")
    ),
    "server ends without a Close": Effect.flatMap(
      connect(`${strange}/end`),
      (connection) => expectFailure(connection, "ConnectionLost")
    ),
    "server ends inside a message": Effect.flatMap(
      connect(`${strange}/torn`),
      (connection) => expectFailure(connection, "ConnectionLost")
    ),
    "server closes and leaves the end to us": Effect.flatMap(
      connect(`${strange}/close`, quick),
      (connection) => expectFailure(connection, "PeerClosed")
    ),
    "server ignores our Close": Effect.gen(function*() {
      const connection = yield* connect(`${strange}/silent`, { ...quick, heartbeat: false })
      yield* connection.close()
      yield* expectCode(connection, 1006)
    }),
    "server answers no ping": Effect.flatMap(
      connect(`${strange}/silent`, quick),
      (connection) => expectFailure(connection, "HeartbeatTimeout")
    ),
    "server reads nothing": Effect.gen(function*() {
      const connection = yield* connect(`${strange}/deaf`, { ...quick, maxQueuedBytes: 100_000 })
      const sending = yield* Effect.forkChild(
        Effect.exit(Effect.forever(connection.send(new Uint8Array(50_000))))
      )
      const exit = yield* Fiber.join(sending)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasFails(exit.cause))
    }),
    "server sends a masked frame": Effect.flatMap(
      connect(`${strange}/violation`, quick),
      (connection) => expectFailure(connection, "ProtocolError")
    ),
    "server sends invalid text": Effect.flatMap(
      connect(`${strange}/latin`, quick),
      (connection) => expectFailure(connection, "InvalidPayload")
    ),
    "server sends too large a message": Effect.flatMap(
      connect(`${strange}/oversized`, { ...quick, maxMessageBytes: 1024 }),
      (connection) => expectFailure(connection, "LimitExceeded")
    ),
    "nobody listens": expectRefusal(nobody, "ConnectionRefused"),
    "connect timeout": expectRefusal(`${strange}/mute`, "ConnectTimeout", { connectTimeout: briefly }),
    "interrupted while connecting": interruptSoon(connect(`${strange}/mute`)),
    "server hangs up": expectRefusal(`${strange}/hangup`, "NetworkFailure"),
    "server ends inside its response": expectRefusal(`${strange}/half`, "NetworkFailure"),
    "server answers another key": expectRefusal(`${strange}/wrong`, "BadUpgrade"),
    "server answers an error": expectRefusal(`${strange}/refuse`, "UpgradeRejected"),
    "server answers garbage": expectRefusal(`${strange}/garbage`, "BadUpgrade"),

    // Over TLS.
    "TLS, closed by the client": Effect.gen(function*() {
      const connection = yield* connectTrusting(`${secure.url}/hold`)
      yield* connection.close()
      assert.isTrue((yield* connection.closed).wasClean)
    }),
    "TLS, closed by the server": Effect.gen(function*() {
      const connection = yield* connectTrusting(`${secure.url}/close`)
      yield* expectCode(connection, 4000)
    }),
    "TLS, aborted by the client": Effect.gen(function*() {
      const connection = yield* connectTrusting(`${secure.url}/hold`)
      yield* connection.abort
    }),
    "TLS, interrupted at any moment": interruptSoon(
      Effect.scoped(Effect.flatMap(connectTrusting(`${secure.url}/echo`), (connection) => connection.receive))
    ),
    "TLS, server is not trusted": expectRefusal(`${secure.url}/hold`, "CertificateRejected"),
    "TLS, server says nothing": expectRefusal(`${strange.replace("ws:", "wss:")}/`, "ConnectTimeout", {
      connectTimeout: briefly
    }),
    "TLS, client sends plain HTTP": Effect.flatMap(
      request(secure.port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
      (peer) => peer.rest
    ),
    "TLS, client says nothing": Effect.flatMap(connectRaw(secureImpatient.port), (peer) => peer.rest),
    "TLS, client resets": Effect.flatMap(request(secure.port, Buffer.from("16030100ff", "hex")), (peer) => peer.reset),
    "TLS, client breaks a record": Effect.gen(function*() {
      const raw = yield* connectRaw(secure.port)
      const peer = new RawPeer(Tls.connect({ socket: carrierOf(raw), rejectUnauthorized: false }))
      yield* peer.send(openingRequest({ target: "/echo" }))
      yield* peer.head
      yield* raw.send(brokenRecord)
      yield* raw.rest
    })
  }

  return {
    endings: Object.entries<Ending[1]>(endings),
    connections: Effect.map(
      Effect.all([patient, hasty, impatient, secure, secureImpatient].map(({ server }) => server.connections)),
      (connections) => connections.flat().length
    )
  }
})
