import { WebSocketServer } from "@effect-ws/core"
import { NodeConnection, NodeWebSocketAdopter, NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Option, Queue, Scope, Stream } from "effect"
import * as Net from "node:net"
import { duplexPair } from "node:stream"
import * as Ws from "ws"
import { connect, echo, handOver, unhandledErrors } from "./fixture.ts"
import {
  closeFrame,
  closeOf,
  connectRaw,
  frame,
  listenRaw,
  openingRequest,
  type RawPeer,
  response,
  sampleAccept
} from "./rawPeer.ts"

/** Sockets that somebody accepts who knows nothing of WebSockets. */
const listen = Effect.gen(function*() {
  const accepted = yield* Queue.unbounded<Net.Socket>()
  const server = Net.createServer({ pauseOnConnect: true }, (socket) => Queue.offerUnsafe(accepted, socket))
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  )
  const { port } = server.address() as Net.AddressInfo
  const pair = Effect.gen(function*() {
    const peer = yield* connectRaw(port)
    return { peer, socket: yield* Queue.take(accepted) }
  })
  return { accept: Queue.take(accepted), pair, port }
})

/** A server for adopted sockets; `stop` releases it. */
const start = Effect.fnUntraced(function*(
  serving: Layer.Layer<never, never, WebSocketServer.WebSocketServer>,
  options: Partial<Parameters<typeof NodeWebSocketAdopter.layer>[0]> = {}
) {
  const { accept, pair, port } = yield* listen
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  const context = yield* serving.pipe(
    Layer.provideMerge(NodeWebSocketAdopter.layer({ address: { _tag: "Tcp", host: "127.0.0.1", port }, ...options })),
    Layer.build,
    Scope.provide(scope)
  )
  const server = Context.get(context, WebSocketServer.WebSocketServer)
  const { adopt } = Context.get(context, NodeWebSocketAdopter.SocketAdopter)
  return { accept, adopt, pair, server, stop: Scope.close(scope, Exit.void) }
})

const expectUpgrade = (peer: RawPeer) =>
  Effect.map(peer.head, (head) => {
    assert.match(head, /^HTTP\/1\.1 101 /)
    assert.include(head, sampleAccept)
  })

const request = Buffer.from(openingRequest())

describe("adopting a socket", () => {
  it.live.each(
    [
      ["nothing of the request", [], [request], ["last"]],
      ["a part of it", [request.subarray(0, 70)], [request.subarray(70)], ["last"]],
      ["all but its last byte", [request.subarray(0, -1)], [request.subarray(-1)], ["last"]],
      ["all of it", [request], [], ["last"]],
      ["it and a frame", [request, frame("text", "one")], [], ["one", "last"]],
      ["it and a part of a frame", [request, frame("text", "one").subarray(0, 4)], [frame("text", "one").subarray(4)], [
        "one",
        "last"
      ]],
      ["it, a frame, and the first byte of the next", [request, frame("text", "one"), Uint8Array.of(0x81)], [
        frame("text", "two").subarray(1)
      ], ["one", "two", "last"]]
    ] as const
  )("after %s was read", ([, before, behind, expected]) =>
    Effect.gen(function*() {
      const { adopt, pair } = yield* start(echo)
      const { peer, socket } = yield* pair
      yield* adopt(socket, { initialData: Buffer.concat(before) })
      for (const bytes of behind) yield* peer.send(bytes)
      yield* expectUpgrade(peer)
      yield* peer.send(frame("text", "last"))
      const texts = yield* Effect.replicateEffect(peer.frame, expected.length)
      assert.deepStrictEqual(texts.map(({ payload }) => payload.toString()), [...expected])
    }).pipe(Effect.scoped))

  it.live("gives it to the routes of the server, which tells its address", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver({ path: "/one", subprotocols: ["v1"] })
      const { accept: acceptSocket, adopt, server } = yield* start(Layer.merge(serving, Layer.empty))
      yield* Effect.forkChild(Effect.forever(Effect.flatMap(acceptSocket, (socket) => adopt(socket))))
      const client = yield* connect(`${server.url}/one`, { subprotocols: ["v1"] })
      assert.deepStrictEqual(client.subprotocol, Option.some("v1"))
      const connection = yield* accept
      assert.deepStrictEqual(yield* server.connections, [connection])
      yield* server.broadcast("to all")
      assert.strictEqual(yield* client.receive, "to all")
      const { reason } = yield* Effect.flip(connect(`${server.url}/other`))
      assert.deepInclude(reason, { _tag: "UpgradeRejected", status: 404 })
    }).pipe(Effect.scoped))

  it.live("works with any duplex stream", () =>
    Effect.gen(function*() {
      const { adopt } = yield* start(echo)
      const [ours, theirs] = duplexPair()
      const received = yield* Deferred.make<string>()
      let text = ""
      theirs.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1")
        if (text.endsWith("\x81\x05hello")) Deferred.doneUnsafe(received, Effect.succeed(text))
      })
      theirs.write(request)
      theirs.write(frame("text", "hello"))
      yield* adopt(ours)
      assert.match(yield* Deferred.await(received), /^HTTP\/1\.1 101 /)
      theirs.destroy()
    }).pipe(Effect.scoped))

  it.live("answers plain HTTP with 426 and garbage with 400, and ends", () =>
    Effect.gen(function*() {
      const { adopt, pair } = yield* start(echo)
      for (const [bytes, status] of [["GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426], ["what?\r\n\r\n", 400]] as const) {
        const { peer, socket } = yield* pair
        yield* adopt(socket, { initialData: Buffer.from(bytes.slice(0, 3)) })
        yield* peer.send(bytes.slice(3))
        assert.strictEqual((yield* response(peer)).status, status)
        yield* peer.rest
      }
    }).pipe(Effect.scoped))

  it.live("answers a request that does not come in time with 408", () =>
    Effect.gen(function*() {
      const { adopt, pair } = yield* start(echo, { handshakeTimeout: "50 millis" })
      const { peer, socket } = yield* pair
      yield* adopt(socket, { initialData: request.subarray(0, 20) })
      assert.strictEqual((yield* response(peer)).status, 408)
      yield* peer.rest
    }).pipe(Effect.scoped))

  it.live("a reset at any moment is nobody's error, and the server goes on", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { adopt, pair, server } = yield* start(echo)
      for (const length of [0, 20, request.length]) {
        const { peer, socket } = yield* pair
        yield* adopt(socket, { initialData: request.subarray(0, length) })
        yield* peer.reset
        yield* Effect.callback<void>((resume) => {
          if (socket.closed) return resume(Effect.void)
          socket.once("close", () => resume(Effect.void))
        })
      }
      const gone = yield* pair
      gone.socket.destroy()
      yield* adopt(gone.socket, { initialData: request })
      const { peer, socket } = yield* pair
      yield* adopt(socket, { initialData: request })
      yield* expectUpgrade(peer)
      assert.strictEqual((yield* server.connections).length, 1)
      assert.deepStrictEqual(errors, [])
    }).pipe(Effect.scoped))

  it.live("shutting the server down tells 1001, and drops what is not upgraded", () =>
    Effect.gen(function*() {
      const { adopt, pair, stop } = yield* start(echo)
      const [open, partial, late] = [yield* pair, yield* pair, yield* pair]
      yield* adopt(open.socket, { initialData: request })
      yield* expectUpgrade(open.peer)
      yield* adopt(partial.socket, { initialData: request.subarray(0, 20) })
      const stopping = yield* Effect.forkChild(stop)
      assert.strictEqual(closeOf(yield* open.peer.frame)?.code, 1001)
      yield* open.peer.send(closeFrame(1001))
      yield* open.peer.end
      yield* Fiber.join(stopping)
      yield* adopt(late.socket, { initialData: request })
      for (const { peer } of [open, partial, late]) assert.strictEqual((yield* peer.rest).length, 0)
    }).pipe(Effect.scoped))
})

describe("a connection after a foreign handshake", () => {
  it.live("as the server: takes what was read behind it, and closes with its scope", () =>
    Effect.gen(function*() {
      const { pair } = yield* listen
      const { peer, socket } = yield* pair
      const scope = yield* Scope.make()
      const first = frame("text", "one")
      const connection = yield* NodeConnection.fromUpgraded(socket, {
        role: "server",
        initialData: first.subarray(0, 3),
        subprotocol: "v1",
        request: { url: "/path", headers: { "x-from": "elsewhere" } }
      }).pipe(Scope.provide(scope))
      assert.deepStrictEqual(connection.subprotocol, Option.some("v1"))
      assert.deepStrictEqual(connection.request, { url: "/path", headers: { "x-from": "elsewhere" } })
      yield* peer.send(first.subarray(3))
      assert.strictEqual(yield* connection.receive, "one")
      yield* connection.send("two")
      const answer = yield* peer.frame
      assert.deepStrictEqual([answer.payload.toString(), answer.masked], ["two", false])
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      assert.strictEqual(closeOf(yield* peer.frame)?.code, 1000)
      yield* peer.send(closeFrame(1000))
      yield* peer.end
      yield* Fiber.join(closing)
    }).pipe(Effect.scoped))

  it.live("as the client: masks what it sends (RFC 6455, section 5.3)", () =>
    Effect.gen(function*() {
      const { pair } = yield* listen
      const { peer, socket } = yield* pair
      const connection = yield* NodeConnection.fromUpgraded(socket, { role: "client" })
      yield* connection.send("one")
      const sent = yield* peer.frame
      assert.deepStrictEqual([sent.payload.toString(), sent.masked], ["one", true])
      yield* peer.send(frame("text", "two", { masked: false }))
      assert.strictEqual(yield* connection.receive, "two")
      yield* connection.abort
    }).pipe(Effect.scoped))

  it.live("notices a silent peer", () =>
    Effect.gen(function*() {
      const { pair } = yield* listen
      const { peer, socket } = yield* pair
      const heartbeat = { interval: "10 millis", timeout: "10 millis" } as const
      const connection = yield* NodeConnection.fromUpgraded(socket, { role: "server", heartbeat })
      const { reason } = yield* Effect.flip(Stream.runDrain(connection.messages))
      assert.strictEqual(reason._tag, "HeartbeatTimeout")
      void peer
    }).pipe(Effect.scoped))
})

/** A socket that leads to a port. */
const dial = (port: number) =>
  Effect.callback<Net.Socket>((resume) => {
    const socket = Net.connect({ port, host: "127.0.0.1" }, () => resume(Effect.succeed(socket)))
  })

const isGone = (socket: Net.Socket) =>
  Effect.callback<void>((resume) => {
    if (socket.closed) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void))
  })

describe("connecting over a socket", () => {
  it.live("that leads to ws", () =>
    Effect.gen(function*() {
      const server = yield* Effect.acquireRelease(
        Effect.callback<Ws.WebSocketServer>((resume) => {
          const server = new Ws.WebSocketServer({ port: 0, host: "127.0.0.1" })
          server.on("listening", () => resume(Effect.succeed(server)))
          server.on("connection", (socket, request) => {
            // In one segment with the 101, or nearly.
            socket.send(`${request.url} ${request.headers.host} ${request.headers["x-extra"]}`)
            socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }))
          })
        }),
        (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
      )
      const socket = yield* dial((server.address() as Net.AddressInfo).port)
      yield* Effect.gen(function*() {
        const connection = yield* NodeWebSocketClient.fromSocket(socket, "ws://example.com/path?a=1", {
          headers: { "x-extra": "yes" },
          subprotocols: ["v1"]
        })
        assert.deepStrictEqual(connection.subprotocol, Option.some("v1"))
        assert.strictEqual(yield* connection.receive, "/path?a=1 example.com yes")
        yield* connection.send("back and forth")
        assert.strictEqual(yield* connection.receive, "back and forth")
      }).pipe(Effect.scoped)
      yield* isGone(socket)
    }).pipe(Effect.scoped))

  it.live("with wss:, takes it for the encrypted one", () =>
    Effect.gen(function*() {
      const server = yield* listenRaw
      const socket = yield* dial(server.port)
      yield* Effect.forkScoped(Effect.exit(NodeWebSocketClient.fromSocket(socket, "wss://example.com/a")))
      const peer = yield* server.accept
      assert.match(yield* peer.head, /^GET \/a HTTP\/1\.1\r\n(.*\r\n)*Host: example\.com\r\n/i)
    }).pipe(Effect.scoped))

  it.live("goes on behind what was read already", () =>
    Effect.gen(function*() {
      const server = yield* listenRaw
      const socket = yield* dial(server.port)
      const early = "HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nno, "
      const connecting = yield* NodeWebSocketClient.fromSocket(socket, "ws://example.com", {
        initialData: Buffer.from(early)
      }).pipe(Effect.flip, Effect.forkChild)
      const peer = yield* server.accept
      yield* peer.send("no")
      const { reason } = yield* Fiber.join(connecting)
      assert.deepInclude(reason, { _tag: "UpgradeRejected", status: 403, body: "no, no" })
      yield* isGone(socket)
    }).pipe(Effect.scoped))

  it.live.each(
    [
      ["a URL that is none", "http://example.com", {}, "InvalidUrl"],
      ["a subprotocol that is none", "ws://example.com", { subprotocols: ["a b"] }, "InvalidRequest"],
      ["a server that is silent", "ws://example.com", { connectTimeout: "20 millis" }, "ConnectTimeout"]
    ] as const
  )("leaves no socket behind %s", ([, url, options, tag]) =>
    Effect.gen(function*() {
      const server = yield* listenRaw
      const socket = yield* dial(server.port)
      const { reason } = yield* Effect.flip(NodeWebSocketClient.fromSocket(socket, url, options))
      assert.strictEqual(reason._tag, tag)
      yield* isGone(socket)
    }).pipe(Effect.scoped))

  it.live("leaves no socket behind an interruption, a reset, or an answer that is wrong", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const server = yield* listenRaw
      const begin = Effect.gen(function*() {
        const socket = yield* dial(server.port)
        const connecting = yield* Effect.forkChild(Effect.flip(NodeWebSocketClient.fromSocket(socket, "ws://a")))
        const peer = yield* server.accept
        yield* peer.head
        return { connecting, peer, socket }
      })
      const interrupted = yield* begin
      yield* Fiber.interrupt(interrupted.connecting)
      yield* isGone(interrupted.socket)
      const reset = yield* begin
      yield* reset.peer.reset
      assert.strictEqual((yield* Fiber.join(reset.connecting)).reason._tag, "NetworkFailure")
      yield* isGone(reset.socket)
      const wrong = yield* begin
      yield* wrong.peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
      assert.strictEqual((yield* Fiber.join(wrong.connecting)).reason._tag, "BadUpgrade")
      yield* isGone(wrong.socket)
      assert.deepStrictEqual(errors, [])
    }).pipe(Effect.scoped))
})
