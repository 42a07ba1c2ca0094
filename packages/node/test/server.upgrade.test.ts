import { HandshakeRequest, WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Queue, Scope } from "effect"
import { echo, echoOne, handOver, recordLogs, start, unhandledErrors } from "./fixture.ts"
import { connectRaw, frame, openingRequest, type RawPeer, upgradeRaw } from "./rawPeer.ts"

/** The server answers a new client as if nothing had happened. */
const serves = Effect.fnUntraced(function*(port: number) {
  const peer = yield* upgradeRaw(port)
  yield* peer.send(frame("text", "still there?"))
  assert.strictEqual((yield* peer.frame).payload.toString(), "still there?")
}, Effect.scoped)

const request = openingRequest({ target: "/" })
const ways = ["reset", "end"] as const

describe("a client that leaves in the middle of the upgrade", () => {
  it.live.each(ways)("while the hook decides, and the hook accepts anyhow (%s)", (way) =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { logs, layer } = recordLogs()
      const decided = yield* Deferred.make<void>()
      const entered = yield* Deferred.make<void>()
      const slowly = Effect.andThen(Deferred.succeed(entered, undefined), Deferred.await(decided))
      const serving = WebSocketServer.serve((connection) => Effect.forever(echoOne(connection)), {
        handshake: ({ path }) =>
          Effect.as(path === "/slow" ? Effect.uninterruptible(slowly) : Effect.void, { data: undefined })
      })
      const { port } = yield* start(serving).pipe(Effect.provide(layer))
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest({ target: "/slow" }))
      yield* Deferred.await(entered)
      yield* peer[way]
      // The next client is served after the server has seen this one go.
      yield* serves(port)
      yield* Deferred.succeed(decided, undefined)
      yield* peer.rest
      yield* serves(port)
      assert.deepStrictEqual([errors, logs], [[], []])
    }))

  it.live.each(ways)("at the moment of the 101 (%s)", (way) =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { logs, layer } = recordLogs()
      // The hook itself cuts the connection, and accepts in the same turn of the event loop.
      const peers = yield* Queue.unbounded<RawPeer>()
      const { accept, serving } = yield* handOver({
        handshake: () => Effect.flatMap(Queue.take(peers), (peer) => Effect.as(peer[way], { data: undefined }))
      })
      const { port, server } = yield* start(serving).pipe(Effect.provide(layer))
      const peer = yield* connectRaw(port)
      yield* Queue.offer(peers, peer)
      yield* peer.send(openingRequest())
      const connection = yield* accept
      assert.deepStrictEqual({ ...(yield* connection.closed) }, {
        code: 1006,
        reason: "",
        wasClean: false,
        initiator: "Remote"
      })
      yield* peer.rest
      assert.deepStrictEqual([errors, logs, (yield* server.connections).length], [[], [], 0])
    }))

  it.live("while it is refused", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { port } = yield* start(echo)
      for (const way of ways) {
        const peer = yield* connectRaw(port)
        yield* Effect.forkChild(peer.send(openingRequest({ headers: { "Sec-WebSocket-Key": "bad" } })))
        yield* peer[way]
        yield* peer.rest
      }
      yield* serves(port)
      assert.deepStrictEqual(errors, [])
    }))
})

describe("a slow handshake is dropped after the timeout", () => {
  const handshakeTimeout = "1 second"

  it.live("when its bytes arrive one by one", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo, { handshakeTimeout })
      const peer = yield* connectRaw(port)
      yield* peer.send(request.slice(0, -2))
      yield* Effect.forkChild(Effect.forever(Effect.delay(peer.send("x"), "10 millis")))
      assert.notInclude((yield* peer.rest).toString(), "101")
      yield* serves(port)
    }))

  it.live("when it dribbles while others connect", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo, { handshakeTimeout })
      const slow = yield* Effect.forEach(Array.from({ length: 20 }), () => connectRaw(port))
      yield* Effect.forEach(slow, (peer) => peer.send("GET / HTTP/1.1\r\n"), { discard: true })
      yield* serves(port)
      yield* Effect.forEach(slow, (peer) => peer.rest, { concurrency: "unbounded", discard: true })
      yield* serves(port)
    }))
})

describe("a client that does not wait for the 101", () => {
  it.live("has what it sent while the hook decided delivered, in order, also when it is gone by then", () =>
    Effect.gen(function*() {
      const entered = yield* Deferred.make<void>()
      const decided = yield* Deferred.make<void>()
      const { accept, serving } = yield* handOver({
        handshake: () =>
          Deferred.succeed(entered, undefined).pipe(
            Effect.andThen(Deferred.await(decided)),
            Effect.as({ data: undefined })
          )
      })
      const { port } = yield* start(serving)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest())
      yield* Deferred.await(entered)
      const messages = Array.from({ length: 1000 }, (_, i) => String(i).padStart(200, "."))
      yield* peer.send(...messages.map((message) => frame("text", message)))
      yield* peer.end
      yield* Deferred.succeed(decided, undefined)
      const connection = yield* accept
      for (const message of messages) assert.strictEqual(yield* connection.receive, message)
      const error = yield* Effect.flip(connection.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ConnectionLost")
    }))
})

describe("a rejection that the client does not read", () => {
  it.live("does not hold up the end of the server", () =>
    Effect.gen(function*() {
      const rejection = new HandshakeRequest.HandshakeRejected({ status: 403, body: "x".repeat(32 * 1024 * 1024) })
      const rejecting = WebSocketServer.serve(() => Effect.void, { handshake: () => Effect.fail(rejection) })
      const scope = yield* Scope.make()
      const { port } = yield* Scope.provide(start(rejecting), scope)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest())
      yield* peer.head
      peer.socket.pause()
      yield* Scope.close(scope, Exit.void)
      peer.socket.resume()
      assert.isBelow((yield* peer.rest).length, 32 * 1024 * 1024)
    }))
})
