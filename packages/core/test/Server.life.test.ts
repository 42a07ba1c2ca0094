import { type Connection, WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Layer, Scope } from "effect"
import { answerClose, settle, start } from "./fixture.ts"
import { echo, echoOne, handOver, recordLogs, serve } from "./serverFixture.ts"

describe("connections", () => {
  it.effect("are those open or closing", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { probe, server } = yield* serve(serving)
      assert.deepStrictEqual(yield* server.connections, [])
      const probes = [yield* probe("/a"), yield* probe("/b")] as const
      const connections = [yield* accept, yield* accept] as const
      assert.deepStrictEqual(yield* server.connections, connections)

      yield* start(connections[0].close())
      assert.strictEqual(yield* connections[0].state, "Closing")
      assert.deepStrictEqual(yield* server.connections, connections)

      yield* answerClose(probes[0])
      yield* connections[0].closed
      assert.deepStrictEqual(yield* server.connections, [connections[1]])

      yield* probes[1].reset
      yield* connections[1].closed
      assert.deepStrictEqual(yield* server.connections, [])
    }))

  it.effect("of all paths of one server are listed together", () =>
    Effect.gen(function*() {
      const one = yield* handOver({ path: "/one" })
      const two = yield* handOver({ path: "/two" })
      const { probe, server } = yield* serve(Layer.mergeAll(one.serving, two.serving))
      yield* probe("/two")
      yield* probe("/one")
      assert.deepStrictEqual(yield* server.connections, [yield* two.accept, yield* one.accept])
    }))
})

describe("limits are options of the server", () => {
  it.effect("maxMessageBytes: the limit itself passes, one byte more is 1009", () =>
    Effect.gen(function*() {
      const { probe } = yield* serve(echo, { maxMessageBytes: 10 })
      const peer = yield* probe()
      yield* peer.sendText("0123456789", "0123456789a")
      yield* peer.expectText("0123456789")
      yield* peer.expectClose(1009)
    }))

  it.effect("maxHeaders: more are 431", () =>
    Effect.gen(function*() {
      const { ask } = yield* serve(echo, { maxHeaders: 6 })
      assert.strictEqual((yield* ask("/", { "X-1": "a" })).status, 101)
      assert.strictEqual((yield* ask("/", { "X-1": "a", "X-2": "b" })).status, 431)
    }))
})

describe("a transport that cannot be wrapped", () => {
  it.effect("is dropped, which is logged, and the others go on", () =>
    Effect.gen(function*() {
      const { layer, logs } = recordLogs()
      const wrap: Connection.ConnectionOptions["wrap"] = (transport, { request }) => {
        if (request.url === "/broken") throw new TypeError("not a function")
        return transport
      }
      const { network, probe, server } = yield* Effect.provide(serve(echo, { wrap }), layer)
      const other = yield* probe()
      // The drop overtakes the 101.
      assert.strictEqual((yield* Effect.flip(probe("/broken"))).reason._tag, "NetworkFailure")
      yield* settle
      yield* other.sendText("still there?")
      yield* other.expectText("still there?")
      assert.lengthOf(yield* network.links, 1)
      assert.lengthOf(yield* server.connections, 1)
      assert.strictEqual(logs.length, 1)
      assert.instanceOf(Cause.squash(logs[0]?.cause ?? Cause.empty), TypeError)
    }))
})

class Broken {
  readonly _tag = "Broken"
}

describe("a handler", () => {
  /** One connection's handler ends like this, at the first message; another's goes on. */
  const ending = Effect.fnUntraced(function*(effect: Effect.Effect<unknown, unknown, Scope.Scope>) {
    const { layer, logs } = recordLogs()
    const serving = WebSocketServer.serve((connection) =>
      connection.request.url === "/ending"
        ? Effect.andThen(connection.receive, effect)
        : Effect.forever(echoOne(connection))
    )
    const { probe } = yield* Effect.provide(serve(serving), layer)
    const other = yield* probe()
    const peer = yield* probe("/ending")
    yield* peer.sendText("go")
    const close = yield* answerClose(peer)
    yield* other.sendText("still there?")
    yield* other.expectText("still there?")
    yield* probe()
    return { close, logs }
  })

  it.effect("that returns closes with 1000, and the others go on (RFC 6455, section 7.4.1)", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* ending(Effect.void), { close: "close 1000", logs: [] })
    }))

  it.effect("that fails closes with 1011, is logged once with its cause, and the others go on", () =>
    Effect.gen(function*() {
      const { close, logs } = yield* ending(Effect.fail(new Broken()))
      assert.strictEqual(close, "close 1011")
      assert.strictEqual(logs.length, 1)
      assert.instanceOf(Cause.squash(logs[0]?.cause ?? Cause.empty), Broken)
    }))

  it.effect("that dies closes with 1011, is logged once with its cause, and the others go on", () =>
    Effect.gen(function*() {
      const { close, logs } = yield* ending(Effect.sync(() => {
        throw new TypeError("not a function")
      }))
      assert.strictEqual(close, "close 1011")
      assert.strictEqual(logs.length, 1)
      assert.instanceOf(Cause.squash(logs[0]?.cause ?? Cause.empty), TypeError)
    }))

  it.effect("whose resource cannot be released has failed too", () =>
    Effect.gen(function*() {
      const { close, logs } = yield* ending(Effect.addFinalizer(() => Effect.die(new TypeError("not a function"))))
      assert.strictEqual(close, "close 1011")
      assert.strictEqual(logs.length, 1)
      assert.instanceOf(Cause.squash(logs[0]?.cause ?? Cause.empty), TypeError)
    }))

  it.effect("that fails closes with 1011, also if the release of a resource is interrupted", () =>
    Effect.gen(function*() {
      const { close, logs } = yield* ending(
        Effect.andThen(Effect.addFinalizer(() => Effect.interrupt), Effect.fail(new Broken()))
      )
      assert.strictEqual(close, "close 1011")
      assert.strictEqual(logs.length, 1)
    }))

  it.effect("that throws before it returns an effect is no different", () =>
    Effect.gen(function*() {
      const { layer, logs } = recordLogs()
      const serving = WebSocketServer.serve((): Effect.Effect<void> => {
        throw new TypeError("not a function")
      })
      const { probe } = yield* Effect.provide(serve(serving), layer)
      assert.strictEqual(yield* answerClose(yield* probe()), "close 1011")
      yield* settle
      assert.strictEqual(logs.length, 1)
    }))

  it.effect("that fails because its connection ended is not logged", () =>
    Effect.gen(function*() {
      const { layer, logs } = recordLogs()
      const ended = yield* Deferred.make<Exit.Exit<unknown, unknown>>()
      const serving = WebSocketServer.serve((connection) =>
        Effect.onExit(Effect.forever(echoOne(connection)), (exit) => Deferred.succeed(ended, exit))
      )
      const scope = yield* Scope.make()
      const { probe } = yield* Scope.provide(serve(serving), scope).pipe(Effect.provide(layer))
      yield* (yield* probe()).reset
      assert.isTrue(Exit.isFailure(yield* Deferred.await(ended)))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(logs, [])
    }))

  it.effect("lives in the scope of its connection, and its resources are released with it", () =>
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
      const { connect } = yield* serve(serving)
      const connection = yield* connect()
      yield* connection.send("go")
      // Before the connection is closed: a resource may want to say goodbye over it.
      assert.strictEqual(yield* Deferred.await(released), "Open")
      assert.strictEqual((yield* connection.closed).code, 1000)
    }))
})
