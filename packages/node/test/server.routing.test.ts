import { WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Scope } from "effect"
import { start } from "./fixture.ts"
import { connectRaw, openingRequest, type RawPeer, response } from "./rawPeer.ts"

/** Tells every client the name of the handler it reached. */
const naming = (name: string, path?: string) =>
  WebSocketServer.serve((connection) => Effect.andThen(connection.send(name), connection.closed), { path })

const nameOrStatus = Effect.fnUntraced(function*(port: number, target: string) {
  const peer: RawPeer = yield* connectRaw(port)
  yield* peer.send(openingRequest({ target }))
  const { status } = yield* response(peer)
  return status === 101 ? (yield* peer.frame).payload.toString() : status
}, Effect.scoped)

describe("routing by path (RFC 6455, section 4.2.2, resource name)", () => {
  it.live("each path has its handler, and the one without a path takes the rest", () =>
    Effect.gen(function*() {
      const { port } = yield* start(Layer.mergeAll(naming("any"), naming("a", "/a"), naming("b", "/b/c")))
      assert.strictEqual(yield* nameOrStatus(port, "/a"), "a")
      assert.strictEqual(yield* nameOrStatus(port, "/b/c"), "b")
      assert.strictEqual(yield* nameOrStatus(port, "/b"), "any")
      assert.strictEqual(yield* nameOrStatus(port, "/"), "any")
    }))

  it.live("a path is compared exactly, without the query", () =>
    Effect.gen(function*() {
      const { port } = yield* start(naming("a", "/a"))
      assert.strictEqual(yield* nameOrStatus(port, "/a?x=/b"), "a")
      assert.strictEqual(yield* nameOrStatus(port, "ws://example.com/a?x"), "a")
      assert.strictEqual(yield* nameOrStatus(port, "/b/../a"), "a")
      assert.strictEqual(yield* nameOrStatus(port, "/A"), 404)
      assert.strictEqual(yield* nameOrStatus(port, "/a/"), 404)
      assert.strictEqual(yield* nameOrStatus(port, "//a"), 404)
    }))

  it.live("a path that nothing serves is 404, and the server goes on", () =>
    Effect.gen(function*() {
      const { port } = yield* start(naming("a", "/a"))
      assert.strictEqual(yield* nameOrStatus(port, "/nothing"), 404)
      assert.strictEqual(yield* nameOrStatus(port, "/a"), "a")
    }))

  it.live("a target that is not a URL is 400", () =>
    Effect.gen(function*() {
      const { port } = yield* start(naming("any"))
      assert.strictEqual(yield* nameOrStatus(port, "http://[/"), 400)
      assert.strictEqual(yield* nameOrStatus(port, "*"), 400)
    }))

  it.live("a server that serves nothing yet is 503", () =>
    Effect.gen(function*() {
      const { port } = yield* start(Layer.empty)
      assert.strictEqual(yield* nameOrStatus(port, "/"), 503)
    }))

  it.live("a path is 404 once its handler is released, and the others go on", () =>
    Effect.gen(function*() {
      const { port, server } = yield* start(naming("a", "/a"))
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(naming("b", "/b"), scope).pipe(
        Effect.provideService(WebSocketServer.WebSocketServer, server)
      )
      assert.strictEqual(yield* nameOrStatus(port, "/b"), "b")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* nameOrStatus(port, "/b"), 404)
      assert.strictEqual(yield* nameOrStatus(port, "/a"), "a")
    }))

  it.live("a path that is served twice is a mistake that stops the server from starting", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(start(Layer.mergeAll(naming("one", "/a"), naming("two", "/a"))))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
    }))
})
