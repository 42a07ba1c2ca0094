/**
 * Watching a connection: its states, the pings and pongs that arrive, and its end.
 *
 *     npx node examples/state-monitor.ts
 *
 * The client prints what it observes, while the server answers a ping, sends one, and closes with a code of its own. All
 * that observes a connection ends by itself when the connection does.
 */
import { type Connection, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Stream } from "effect"

const Server = WebSocketServer.serve(
  Effect.fn("server")(function*(connection) {
    yield* connection.receive
    yield* connection.ping
    yield* connection.close(4000, "seen enough")
  })
).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

const url = WebSocketServer.WebSocketServer.useSync((server) => server.url)

const monitor = (connection: Connection.Connection) =>
  Effect.all([
    Stream.runForEach(connection.changes, (state) => Console.log(`state: ${state}`)),
    Stream.runForEach(connection.controls, ({ _tag, payload }) => Console.log(`${_tag} with ${payload.length} bytes`)),
    Effect.tap(connection.closed, ({ code, initiator, reason, wasClean }) =>
      Console.log(`closed by ${initiator} side, code ${code}, reason "${reason}", ${wasClean ? "clean" : "not clean"}`))
  ], { concurrency: "unbounded" })

const program = Effect.gen(function*() {
  const connection = yield* WebSocketClient.connect(yield* url)
  const monitoring = yield* Effect.forkChild(monitor(connection), { startImmediately: true })
  yield* connection.ping
  yield* connection.send("your turn")
  const [, , { code }] = yield* Fiber.join(monitoring)
  if (code !== 4000) return yield* Effect.die(`closed with ${code}`)
})

program.pipe(
  Effect.scoped,
  Effect.provide([Server, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
