import { BrowserWebSocketClient, type Connection, HandshakeRequest, WebSocketClient } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Scope, Stream } from "effect"
import * as Net from "node:net"
import * as Ws from "ws"
import { handOver, start, unhandledErrors } from "./fixture.ts"
import { type ForeignPeer, matrix, type Open } from "./foreignPeer.ts"

const KiB = 1024

/** Both ends of a connection: the client over a class with the interface of browsers, and the server's. */
const connect = Effect.fnUntraced(function*(
  options: WebSocketClient.ConnectOptions = {},
  clientOptions: BrowserWebSocketClient.Options = {},
  spoken: ReadonlyArray<string> = []
) {
  const { accept, serving } = yield* handOver({ subprotocols: spoken })
  const { url } = yield* start(serving)
  const connection = yield* Effect.tap(
    WebSocketClient.connect(url, options),
    (connection) => Effect.addFinalizer(() => connection.abort)
  ).pipe(Effect.provide(BrowserWebSocketClient.layerWith(clientOptions)))
  return { connection, peer: yield* accept }
})

const peerOf = (connection: Connection.Connection): ForeignPeer => ({
  subprotocol: Effect.succeed(Option.getOrElse(connection.subprotocol, () => "")),
  send: (message) => Effect.orDie(connection.send(message)),
  receive: Effect.orDie(connection.receive),
  close: (code, reason) => Effect.orDie(connection.close(code, reason)),
  closed: Effect.map(connection.closed, ({ code, reason }) => ({ code, reason }))
})

const open = (clientOptions: BrowserWebSocketClient.Options): Open<ForeignPeer> => ({ offered, spoken }) =>
  Effect.map(
    connect({ subprotocols: offered }, clientOptions, spoken),
    ({ connection, peer }) => ({ connection, peer: peerOf(peer) })
  )

matrix("the client over Node's WebSocket", open({}))
// Any class with the interface of browsers will do.
matrix("the client over the WebSocket of ws", open({ webSocket: Ws.WebSocket }))

describe("the client over Node's WebSocket", () => {
  it.live("answers the server's pings by itself (§5.5.2)", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* connect()
      yield* peer.ping
      assert.isFalse(connection.capabilities.has("ControlFrames"))
    }))

  it.live("a server that does not read: sends are suspended, nothing is lost, memory is bounded", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* connect({ maxQueuedBytes: 256 * KiB })
      yield* peer.pause
      const message = new Uint8Array(64 * KiB)
      const count = 500
      let accepted = 0
      while (connection.sendUnsafe(message) === "Accepted") accepted++
      // What the queue holds, and what the platform does.
      assert.isBelow(accepted * message.length, 600 * KiB)
      const sending = yield* Effect.forkChild(
        connection.sendAll(Array.from({ length: count - accepted }, () => message)),
        { startImmediately: true }
      )
      assert.isAtMost(yield* connection.queuedBytes, 256 * KiB)
      yield* peer.resume
      const received = yield* peer.messages.pipe(Stream.take(count), Stream.runFold(() => 0, (n, m) => n + m.length))
      yield* Fiber.join(sending)
      yield* connection.drained
      assert.strictEqual(received, count * message.length)
    }))

  it.live("a flood that nobody reads closes the connection with 4008", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* connect({}, { maxUnreadBytes: 256 * KiB })
      const flood = yield* Effect.forkChild(Effect.exit(Effect.forever(peer.send("x".repeat(8 * KiB)))))
      assert.strictEqual((yield* peer.closed).code, 4008)
      assert.isTrue(Exit.isFailure(yield* Fiber.join(flood)))
      const error = yield* Effect.flip(Stream.runDrain(connection.messages))
      assert.strictEqual(error.reason._tag, "ReceiveOverflow")
    }))

  it.live("a handshake that is rejected, and an address where nobody listens, are Undisclosed", () =>
    Effect.gen(function*() {
      const { serving } = yield* handOver({
        handshake: () => Effect.fail(new HandshakeRequest.HandshakeRejected({ status: 401 }))
      })
      const { url } = yield* start(serving)
      for (const target of [url, "ws://127.0.0.1:1"]) {
        const error = yield* Effect.flip(WebSocketClient.connect(target))
        assert.strictEqual(error.reason._tag, "Undisclosed")
      }
    }).pipe(Effect.provide(BrowserWebSocketClient.layer)))

  it.live("interrupted while it is connecting, it leaves no socket", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const accepted = yield* Deferred.make<Net.Socket>()
      // It accepts the socket, and never answers.
      const server = Net.createServer((socket) => void Deferred.doneUnsafe(accepted, Effect.succeed(socket)))
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.sync(() => server.close())
      )
      const { port } = server.address() as Net.AddressInfo
      const connecting = yield* Effect.forkChild(
        Effect.provide(WebSocketClient.connect(`ws://127.0.0.1:${port}`), BrowserWebSocketClient.layer)
      )
      const socket = yield* Deferred.await(accepted)
      const closed = yield* Effect.forkChild(Effect.callback<void>((resume) => {
        socket.on("error", () => {})
        socket.on("close", () => resume(Effect.void))
        socket.resume()
      }))
      yield* Fiber.interrupt(connecting)
      yield* Fiber.join(closed)
      assert.deepStrictEqual(errors, [])
    }))

  it.live("the end of its scope is what the server sees: 1000, or 4011 after a failure", () =>
    Effect.gen(function*() {
      for (const [exit, code] of [[Exit.void, 1000], [Exit.fail("oops"), 4011]] as const) {
        const { accept, serving } = yield* handOver()
        const { url } = yield* start(serving)
        const scope = yield* Scope.make()
        const connection = yield* Scope.provide(WebSocketClient.connect(url), scope)
        const peer = yield* accept
        yield* Scope.close(scope, exit)
        assert.deepInclude({ ...yield* connection.closed }, { code, wasClean: true, initiator: "Local" })
        assert.deepInclude({ ...yield* peer.closed }, { code, wasClean: true, initiator: "Remote" })
      }
    }).pipe(Effect.provide(BrowserWebSocketClient.layer)))

  it.live("abort does not look like an ordinary end: the server sees 4006", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* connect()
      yield* connection.abort
      assert.deepInclude({ ...yield* connection.closed }, { code: 1006, initiator: "Local" })
      assert.deepInclude({ ...yield* peer.closed }, { code: 4006, initiator: "Remote" })
    }))
})
