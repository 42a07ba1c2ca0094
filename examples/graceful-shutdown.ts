/**
 * Graceful shutdown: what clients see when their server is interrupted, as `NodeRuntime.runMain` does on Ctrl-C.
 *
 *     npx node examples/graceful-shutdown.ts
 *
 * Three clients are connected when the server is interrupted. Each gets the farewell that its handler sends, and then a
 * Close with 1001 (going away), which ends its messages in the ordinary way. A client that comes later is refused.
 */
import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Deferred, Effect, Fiber, Layer, Stream } from "effect"

const Server = WebSocketServer.serve((connection) =>
  Stream.runDrain(connection.messages).pipe(
    Effect.onInterrupt(() => Effect.ignore(connection.send("the server is going down")))
  )
).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

const url = WebSocketServer.WebSocketServer.useSync((server) => server.url)

const program = Effect.gen(function*() {
  const started = yield* Deferred.make<string>()
  const server = yield* Layer.effectDiscard(Effect.flatMap(url, (url) => Deferred.succeed(started, url))).pipe(
    Layer.provide(Server),
    Layer.launch,
    Effect.forkChild
  )
  const address = yield* Deferred.await(started)
  const clients = yield* Effect.replicateEffect(WebSocketClient.connect(address), 3)

  yield* Console.log(`${clients.length} clients connected, interrupting the server`)
  yield* Fiber.interrupt(server)

  for (const client of clients) {
    const messages = yield* Stream.runCollect(client.messages)
    const { code } = yield* client.closed
    yield* Console.log(`a client received ${JSON.stringify(messages)}, then ${code}`)
    if (code !== 1001) return yield* Effect.die("1001 expected")
  }
  const { reason } = yield* Effect.flip(WebSocketClient.connect(address))
  yield* Console.log(`a late client: ${reason._tag}`)
})

program.pipe(
  Effect.scoped,
  Effect.provide(NodeWebSocketClient.layer),
  NodeRuntime.runMain
)
