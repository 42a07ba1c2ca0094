/**
 * The ways in which connecting and being connected fail, each a value with a tag of its own.
 *
 *     npx node examples/errors.ts
 *
 * The server ends each connection in another way, named by its path; the client prints what it makes of it.
 */
import { type Connection, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"

const serve = (path: string, handler: (connection: Connection.Connection) => Effect.Effect<unknown, unknown>) =>
  WebSocketServer.serve(handler, { path })

const Server = Layer.mergeAll(
  serve("/done", () => Effect.void),
  serve("/full", (connection) => connection.close(1013, "come back later")),
  serve("/crash", (connection) => connection.abort),
  serve("/large", (connection) => connection.send("!".repeat(2_000_000))),
  serve("/silent", (connection) => Effect.andThen(connection.pause, connection.closed))
).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

const url = WebSocketServer.WebSocketServer.useSync((server) => server.url)

const endOf = Effect.fn("endOf")(
  function*(url: string) {
    const connection = yield* WebSocketClient.connect(url, {
      heartbeat: { interval: "100 millis", timeout: "100 millis" }
    })
    yield* Stream.runDrain(connection.messages)
    return "an ordinary end"
  },
  Effect.scoped,
  Effect.catchReasons("ConnectionError", {
    PeerClosed: (_, { closeEvent }) => Effect.succeed(`closed with ${closeEvent.code} ${closeEvent.reason}`),
    ConnectionLost: () => Effect.succeed("lost without a Close"),
    LimitExceeded: ({ detail }) => Effect.succeed(`given up, ${detail}`),
    HeartbeatTimeout: () => Effect.succeed("given up, the peer is dead")
  }),
  Effect.catchReasons("ConnectError", {
    InvalidUrl: ({ detail }) => Effect.succeed(`not a WebSocket URL, ${detail}`),
    ConnectionRefused: () => Effect.succeed("nobody listens there"),
    UpgradeRejected: ({ body, status }) => Effect.succeed(`rejected with HTTP ${status}, ${body}`)
  })
)

const program = Effect.gen(function*() {
  const server = yield* url
  const paths = ["/done", "/full", "/crash", "/large", "/silent", "/missing"]
  for (const address of [...paths.map((path) => `${server}${path}`), "ws://127.0.0.1:1", "http://127.0.0.1"]) {
    yield* Console.log(`${address}: ${yield* endOf(address)}`)
  }
})

program.pipe(
  Effect.provide([Server, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
