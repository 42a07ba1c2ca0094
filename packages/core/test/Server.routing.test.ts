import { WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Scope } from "effect"
import { serve } from "./serverFixture.ts"

/** Tells every client the name of the handler it reached. */
const naming = (name: string, path?: string) =>
  WebSocketServer.serve(
    (connection) => Effect.andThen(connection.send(name), connection.closed),
    { path, handshake: () => Effect.succeed({ headers: { "X-Name": name }, data: undefined }) }
  )

/** The name of the handler that a target leads to, or the status that refuses it. */
const start = Effect.fnUntraced(function*(serving: Layer.Layer<never, never, WebSocketServer.WebSocketServer>) {
  const served = yield* serve(serving)
  return {
    server: served.server,
    leadsTo: (target: string) =>
      Effect.map(served.ask(target), ({ headers, status }) => status === 101 ? headers["x-name"] : status)
  }
})

describe("routing by path (RFC 6455, section 4.2.2, resource name)", () => {
  it.effect("each path has its handler, and the one without a path takes the rest", () =>
    Effect.gen(function*() {
      const { leadsTo } = yield* start(Layer.mergeAll(naming("any"), naming("a", "/a"), naming("b", "/b/c")))
      assert.strictEqual(yield* leadsTo("/a"), "a")
      assert.strictEqual(yield* leadsTo("/b/c"), "b")
      assert.strictEqual(yield* leadsTo("/b"), "any")
      assert.strictEqual(yield* leadsTo("/"), "any")
    }))

  it.effect("the handler is the one whose hook was asked", () =>
    Effect.gen(function*() {
      const { probe } = yield* serve(Layer.mergeAll(naming("any"), naming("a", "/a")))
      yield* (yield* probe("/a")).expectText("a")
      yield* (yield* probe("/b")).expectText("any")
    }))

  it.effect("a path is compared exactly, without the query", () =>
    Effect.gen(function*() {
      const { leadsTo } = yield* start(naming("a", "/a"))
      assert.strictEqual(yield* leadsTo("/a?x=/b"), "a")
      assert.strictEqual(yield* leadsTo("ws://example.com/a?x"), "a")
      assert.strictEqual(yield* leadsTo("/b/../a"), "a")
      assert.strictEqual(yield* leadsTo("/A"), 404)
      assert.strictEqual(yield* leadsTo("/a/"), 404)
      assert.strictEqual(yield* leadsTo("//a"), 404)
    }))

  it.effect("a path that nothing serves is 404, and the server goes on", () =>
    Effect.gen(function*() {
      const { leadsTo } = yield* start(naming("a", "/a"))
      assert.strictEqual(yield* leadsTo("/nothing"), 404)
      assert.strictEqual(yield* leadsTo("/a"), "a")
    }))

  it.effect("a target that is not a URL is 400", () =>
    Effect.gen(function*() {
      const { leadsTo } = yield* start(naming("any"))
      assert.strictEqual(yield* leadsTo("http://[/"), 400)
      assert.strictEqual(yield* leadsTo("*"), 400)
    }))

  it.effect("a server that serves nothing yet is 503", () =>
    Effect.gen(function*() {
      const { leadsTo } = yield* start(Layer.empty)
      assert.strictEqual(yield* leadsTo("/"), 503)
    }))

  it.effect("a path is 404 once its handler is released, and the others go on", () =>
    Effect.gen(function*() {
      const { leadsTo, server } = yield* start(naming("a", "/a"))
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(naming("b", "/b"), scope).pipe(
        Effect.provideService(WebSocketServer.WebSocketServer, server)
      )
      assert.strictEqual(yield* leadsTo("/b"), "b")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* leadsTo("/b"), 404)
      assert.strictEqual(yield* leadsTo("/a"), "a")
    }))

  it.effect("a path that is served twice is a mistake that stops the server from starting", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(start(Layer.mergeAll(naming("one", "/a"), naming("two", "/a"))))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
    }))
})
