import { WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Layer, Scope } from "effect"
import { connect, echoOne, handOver, recordLogs, start } from "./fixture.ts"
import { closeFrame, closeOf, frame, type RawPeer, upgradeRaw } from "./rawPeer.ts"

const answerClose = Effect.fnUntraced(function*(peer: RawPeer) {
  const close = closeOf(yield* peer.frame)
  yield* peer.send(closeFrame(close?.code ?? 0))
  yield* peer.end
  assert.strictEqual((yield* peer.rest).length, 0)
  return close
})

describe("connections", () => {
  it.live("are those open or closing", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port, server } = yield* start(serving)
      assert.deepStrictEqual(yield* server.connections, [])
      const peers = [yield* upgradeRaw(port, "/a"), yield* upgradeRaw(port, "/b")] as const
      const connections = [yield* accept, yield* accept] as const
      assert.deepStrictEqual(yield* server.connections, connections)

      yield* Effect.forkChild(connections[0].close(), { startImmediately: true })
      assert.strictEqual(yield* connections[0].state, "Closing")
      assert.deepStrictEqual(yield* server.connections, connections)

      yield* answerClose(peers[0])
      yield* connections[0].closed
      assert.deepStrictEqual(yield* server.connections, [connections[1]])

      yield* peers[1].reset
      yield* connections[1].closed
      assert.deepStrictEqual(yield* server.connections, [])
    }))

  it.live("of all paths of one server are listed together", () =>
    Effect.gen(function*() {
      const one = yield* handOver({ path: "/one" })
      const two = yield* handOver({ path: "/two" })
      const { port, server } = yield* start(Layer.mergeAll(one.serving, two.serving))
      yield* upgradeRaw(port, "/two")
      yield* upgradeRaw(port, "/one")
      assert.deepStrictEqual(yield* server.connections, [yield* two.accept, yield* one.accept])
    }))
})

class Broken {
  readonly _tag = "Broken"
}

describe("a handler", () => {
  /** One connection's handler ends like this, at the first message; another's goes on. */
  const ending = Effect.fnUntraced(function*(effect: Effect.Effect<unknown, unknown>) {
    const { layer, logs } = recordLogs()
    const serving = WebSocketServer.serve((connection) =>
      connection.request.url === "/ending"
        ? Effect.andThen(connection.receive, effect)
        : Effect.forever(echoOne(connection))
    )
    const { port } = yield* start(serving).pipe(Effect.provide(layer))
    const other = yield* upgradeRaw(port)
    const peer = yield* upgradeRaw(port, "/ending")
    yield* peer.send(frame("text", "go"))
    const close = yield* answerClose(peer)
    yield* other.send(frame("text", "still there?"))
    assert.strictEqual((yield* other.frame).payload.toString(), "still there?")
    yield* upgradeRaw(port)
    return { close, logs }
  })

  it.live("that returns closes with 1000, and the others go on (RFC 6455, section 7.4.1)", () =>
    Effect.gen(function*() {
      const { close, logs } = yield* ending(Effect.void)
      assert.deepStrictEqual([close?.code, logs.length], [1000, 0])
    }))

  it.live("that fails closes with 1011, is logged once with its cause, and the others go on", () =>
    Effect.gen(function*() {
      const { close, logs } = yield* ending(Effect.fail(new Broken()))
      assert.strictEqual(close?.code, 1011)
      assert.strictEqual(logs.length, 1)
      assert.instanceOf(Cause.squash(logs[0]?.cause ?? Cause.empty), Broken)
    }))

  it.live("that dies closes with 1011, is logged once with its cause, and the others go on", () =>
    Effect.gen(function*() {
      const { close, logs } = yield* ending(Effect.sync(() => {
        throw new TypeError("not a function")
      }))
      assert.strictEqual(close?.code, 1011)
      assert.strictEqual(logs.length, 1)
      assert.instanceOf(Cause.squash(logs[0]?.cause ?? Cause.empty), TypeError)
    }))

  it.live("that throws before it returns an effect is no different", () =>
    Effect.gen(function*() {
      const { layer, logs } = recordLogs()
      const serving = WebSocketServer.serve((): Effect.Effect<void> => {
        throw new TypeError("not a function")
      })
      const scope = yield* Scope.make()
      const { port } = yield* Scope.provide(start(serving), scope).pipe(Effect.provide(layer))
      const peer = yield* upgradeRaw(port)
      assert.strictEqual((yield* answerClose(peer))?.code, 1011)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(logs.length, 1)
    }))

  it.live("that fails because its connection ended is not logged", () =>
    Effect.gen(function*() {
      const { layer, logs } = recordLogs()
      const ended = yield* Deferred.make<Exit.Exit<unknown, unknown>>()
      const serving = WebSocketServer.serve((connection) =>
        Effect.onExit(Effect.forever(echoOne(connection)), (exit) => Deferred.succeed(ended, exit))
      )
      const scope = yield* Scope.make()
      const { port } = yield* Scope.provide(start(serving), scope).pipe(Effect.provide(layer))
      const peer = yield* upgradeRaw(port)
      yield* peer.reset
      assert.isTrue(Exit.isFailure(yield* Deferred.await(ended)))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(logs, [])
    }))

  it.live("lives in the scope of its connection, and its resources are released with it", () =>
    Effect.gen(function*() {
      const released = yield* Deferred.make<string>()
      const serving = WebSocketServer.serve((connection) =>
        Effect.gen(function*() {
          yield* Effect.acquireRelease(
            Effect.void,
            () => Effect.flatMap(connection.state, (state) => Deferred.succeed(released, state))
          )
          yield* connection.receive
        })
      )
      const { url } = yield* start(serving)
      const connection = yield* connect(url)
      yield* connection.send("go")
      // Before the connection is closed: a resource may want to say goodbye over it.
      assert.strictEqual(yield* Deferred.await(released), "Open")
      assert.strictEqual((yield* connection.closed).code, 1000)
    }))
})
