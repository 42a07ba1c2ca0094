import { type HandshakeRequest, WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import { connect, echo, handOver, recordLogs, start } from "./fixture.ts"
import { closeFrame, closeOf, connectRaw, openingRequest, upgradeRaw } from "./rawPeer.ts"

/** A server that is shut down by `stop`. */
const startIn = Effect.fnUntraced(function*(...args: Parameters<typeof start>) {
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  const started = yield* Scope.provide(start(...args), scope)
  return { ...started, stop: Scope.close(scope, Exit.void) }
})

describe("shutting a server down", () => {
  it.live("tells every client 1001, and waits for them (RFC 6455, section 7.4.1)", () =>
    Effect.gen(function*() {
      const { logs, layer } = recordLogs()
      const { port, stop, url } = yield* startIn(echo, { closeTimeout: "1 minute" }).pipe(Effect.provide(layer))
      const clients = yield* Effect.all([connect(url), connect(url)])
      const peer = yield* upgradeRaw(port)
      const stopping = yield* Effect.forkChild(stop)
      assert.strictEqual(closeOf(yield* peer.frame)?.code, 1001)
      for (const client of clients) {
        const { code, initiator, wasClean } = yield* client.closed
        assert.deepStrictEqual([code, wasClean, initiator], [1001, true, "Remote"])
        // Going away is an ordinary end.
        assert.deepStrictEqual(yield* Stream.runCollect(client.messages), [])
      }
      assert.isUndefined(stopping.pollUnsafe())
      yield* peer.send(closeFrame(1001))
      yield* peer.end
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(logs, [])
    }))

  it.live("sends what was queued before the 1001", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { stop, url } = yield* startIn(serving)
      const client = yield* connect(url)
      const connection = yield* accept
      const big = "x".repeat(1_000_000)
      yield* connection.send(big)
      const stopping = yield* Effect.forkChild(stop)
      assert.strictEqual(yield* client.receive, big)
      assert.strictEqual((yield* client.closed).code, 1001)
      yield* Fiber.join(stopping)
    }))

  it.live("waits for silent peers no longer than the close timeout, all at once", () =>
    Effect.gen(function*() {
      const { port, stop } = yield* startIn(echo, { closeTimeout: "200 millis" })
      const peers = yield* Effect.all(Array.from({ length: 20 }, () => upgradeRaw(port)))
      // One after the other they would take 4 seconds.
      yield* Effect.timeout(stop, "3 seconds")
      for (const peer of peers) {
        assert.strictEqual(closeOf(yield* peer.frame)?.code, 1001)
        assert.strictEqual((yield* peer.rest).length, 0)
      }
    }))

  it.live("waits for peers that do not even read no longer than that", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port, stop } = yield* startIn(serving, { closeTimeout: "200 millis" })
      const peer = yield* upgradeRaw(port)
      peer.socket.pause()
      const connection = yield* accept
      yield* Effect.forkChild(Effect.ignore(Effect.forever(connection.send(new Uint8Array(65536)))))
      while ((yield* connection.queuedBytes) < 900_000) yield* Effect.yieldNow
      yield* Effect.timeout(stop, "3 seconds")
      assert.deepStrictEqual({ ...(yield* connection.closed) }, {
        code: 1006,
        reason: "",
        wasClean: false,
        initiator: "Local"
      })
    }))

  it.live("interrupts the handlers, and each finishes before its connection is closed", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const serving = WebSocketServer.serve((connection) =>
        Deferred.succeed(started, undefined).pipe(
          Effect.andThen(Effect.never),
          Effect.onInterrupt(() => Effect.ignore(connection.send("goodbye")))
        )
      )
      const { stop, url } = yield* startIn(serving)
      const client = yield* connect(url)
      yield* Deferred.await(started)
      yield* stop
      assert.strictEqual(yield* client.receive, "goodbye")
      assert.strictEqual((yield* client.closed).code, 1001)
    }))

  it.live("accepts nobody any more while it waits", () =>
    Effect.gen(function*() {
      const { port, server, stop } = yield* startIn(echo)
      const peer = yield* upgradeRaw(port)
      const stopping = yield* Effect.forkChild(stop)
      yield* peer.frame
      const refused = yield* Effect.gen(function*() {
        const late = yield* connectRaw(port)
        yield* late.send(openingRequest())
        return yield* late.rest
      }).pipe(Effect.scoped, Effect.exit)
      assert.isTrue(Exit.isFailure(refused) || !refused.value.toString().startsWith("HTTP/1.1 101"))
      assert.strictEqual((yield* server.connections).length, 1)
      yield* peer.reset
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(yield* server.connections, [])
    }))

  it.live("drops a handshake whose hook has not decided, and sockets without a request", () =>
    Effect.gen(function*() {
      const entered = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const serving = WebSocketServer.serve(() => Effect.void, {
        handshake: (): Effect.Effect<{ readonly data: void }, HandshakeRequest.HandshakeRejected> =>
          Deferred.succeed(entered, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
      })
      const { port, stop } = yield* startIn(serving, { closeTimeout: "1 minute" })
      const idle = yield* connectRaw(port)
      const partial = yield* connectRaw(port)
      yield* partial.send("GET / HT")
      const deciding = yield* connectRaw(port)
      yield* deciding.send(openingRequest())
      yield* Deferred.await(entered)
      yield* stop
      yield* Deferred.await(interrupted)
      for (const peer of [idle, partial, deciding]) assert.strictEqual((yield* peer.rest).length, 0)
    }))

  it.live("of one path leaves the others open", () =>
    Effect.gen(function*() {
      const { port, server } = yield* start(echo)
      const scope = yield* Scope.make()
      const other = WebSocketServer.serve((connection) => connection.closed, { path: "/other" })
      yield* Layer.buildWithScope(other, scope).pipe(Effect.provideService(WebSocketServer.WebSocketServer, server))
      const staying = yield* upgradeRaw(port)
      const leaving = yield* upgradeRaw(port, "/other")
      const stopping = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      assert.strictEqual(closeOf(yield* leaving.frame)?.code, 1001)
      yield* leaving.reset
      yield* Fiber.join(stopping)
      assert.strictEqual((yield* server.connections).length, 1)
      void staying
    }))
})
