import { BrowserWebSocketClient, HandshakeRequest, Reconnect, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schedule, Scope, Stream } from "effect"
import { echo, start, unhandledErrors } from "./fixture.ts"

/** A server that can be stopped before the test ends. */
const startAlone = Effect.fnUntraced(function*(port: number) {
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  const server = yield* Scope.provide(start(echo, { port }), scope)
  return { ...server, stop: Scope.close(scope, Exit.void) }
})

const until = (client: Reconnect.ReconnectingConnection, tag: Reconnect.State["_tag"]) =>
  client.changes.pipe(Stream.filter((state) => state._tag === tag), Stream.runHead)

describe("reconnecting over sockets", () => {
  const clients = [
    { over: "Node's sockets", layer: NodeWebSocketClient.layer, refused: "ConnectionRefused" },
    { over: "the platform's WebSocket", layer: BrowserWebSocketClient.layer, refused: "Undisclosed" }
  ]

  it.live.each(clients)(
    "a server that is restarted on its port gets its client back, over $over, and what it sent meanwhile",
    ({ layer, refused }) =>
      Effect.gen(function*() {
        const errors = yield* unhandledErrors
        const first = yield* startAlone(0)
        const client = yield* Reconnect.connect(first.url, {
          schedule: Schedule.spaced("20 millis"),
          drainSpread: "20 millis",
          onConnect: (connection) => connection.send("subscribe")
        })
        const states: Array<string> = []
        const observing = yield* Effect.forkChild(
          Stream.runForEach(client.changes, (state) =>
            Effect.sync(() => {
              if (state._tag === "Waiting" && state.ending._tag === "ConnectError") {
                states.push(state.ending.reason._tag)
              }
              if (state._tag === "Waiting" && state.ending._tag === "ConnectionEnded") {
                states.push(`${state.ending.closeEvent.code}`)
              }
            })),
          { startImmediately: true }
        )
        yield* client.send("one")
        assert.strictEqual(yield* client.receive, "subscribe")
        assert.strictEqual(yield* client.receive, "one")

        yield* first.stop
        yield* client.send("two")
        // Nobody listens: at least one attempt is refused.
        yield* client.changes.pipe(
          Stream.filter((state) => state._tag === "Waiting" && state.ending._tag === "ConnectError"),
          Stream.runHead
        )
        const second = yield* startAlone(first.port)
        assert.strictEqual(yield* client.receive, "subscribe")
        assert.strictEqual(yield* client.receive, "two")
        assert.deepStrictEqual(states.slice(0, 2), ["1001", refused])

        // Dropped without a Close, too.
        const [connection] = yield* second.server.connections
        yield* connection!.abort
        yield* until(client, "Waiting")
        yield* client.send("three")
        assert.strictEqual(yield* client.receive, "subscribe")
        assert.strictEqual(yield* client.receive, "three")

        yield* client.close()
        yield* Fiber.join(observing)
        assert.deepStrictEqual(errors, [])
      }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.live("a rejection with 429 is tried again, one with 403 is final", () =>
    Effect.gen(function*() {
      let asked = 0
      const serving = WebSocketServer.serve(() => Effect.never, {
        handshake: () =>
          Effect.suspend(() => {
            asked++
            return Effect.fail(
              new HandshakeRequest.HandshakeRejected(
                asked === 1 ? { status: 429 } : { status: 403 }
              )
            )
          })
      })
      const { url } = yield* start(serving)
      const client = yield* Reconnect.connect(url, { schedule: Schedule.spaced("1 millis") })
      yield* until(client, "Waiting")
      assert.strictEqual(asked, 1)
      const error = yield* Effect.flip(client.closed)
      assert(error.reason._tag === "ConnectError" && error.reason.reason._tag === "UpgradeRejected")
      assert.strictEqual(error.reason.reason.status, 403)
      assert.strictEqual(asked, 2)
    }).pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer)))
})
