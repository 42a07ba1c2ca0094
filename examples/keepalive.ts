/**
 * Keepalive: measuring the round trip, and finding out that a peer is dead though nothing tells.
 *
 *     npx node examples/keepalive.ts
 *
 * A connection that is silent for `interval` is pinged; if nothing arrives for `timeout` after that, it is given up. By
 * default both are 20 seconds. Here, the client prints some round-trip times and the pongs of its heartbeat; then it
 * connects to a peer that has stopped reading, and prints how soon that was noticed.
 */
import { type Heartbeat, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Duration, Effect, Layer, Stream } from "effect"

const heartbeat: Heartbeat.Options = { interval: "100 millis", timeout: "200 millis" }

const Alive = WebSocketServer.serve((connection) => connection.closed, { path: "/alive" })
// Its socket stays open, but nobody reads what comes, pings included.
const Dead = WebSocketServer.serve((connection) => Effect.andThen(connection.pause, connection.closed), {
  path: "/dead"
})
const Server = Layer.mergeAll(Alive, Dead).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

const url = WebSocketServer.WebSocketServer.useSync((server) => server.url)

const program = Effect.gen(function*() {
  const alive = yield* WebSocketClient.connect(`${yield* url}/alive`, { heartbeat })
  yield* alive.ping.pipe(
    Effect.tap((duration) => Console.log(`round trip: ${Duration.toMillis(duration).toFixed(2)} ms`)),
    Effect.repeat({ times: 2 })
  )
  yield* alive.controls.pipe(
    Stream.take(2),
    Stream.runForEach(({ _tag }) => Console.log(`${_tag} for the heartbeat`))
  )

  const dead = yield* WebSocketClient.connect(`${yield* url}/dead`, { heartbeat })
  const [duration, error] = yield* Stream.runDrain(dead.messages).pipe(Effect.flip, Effect.timed)
  yield* Console.log(`${error.reason._tag} after ${Duration.toMillis(duration).toFixed(0)} ms`)
  if (error.reason._tag !== "HeartbeatTimeout") return yield* error
})

program.pipe(
  Effect.scoped,
  Effect.provide([Server, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
