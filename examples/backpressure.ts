/**
 * Backpressure: a slow consumer slows a fast sender down, and neither needs more memory for it.
 *
 *     npx node examples/backpressure.ts
 *
 * The client sends 64 MiB as fast as it can to a server that does not read yet. Once the outbound queue and the buffers of
 * the operating system are full, `send` suspends: the lines that are printed, with the gauges of the queue and how much
 * more memory this process (it is both ends) uses, come to a stop. Then the server begins to read, and all arrives.
 */
import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Latch, Layer, Stream } from "effect"

const messages = 1024
const message = new Uint8Array(64 * 1024)

const mebibytes = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`

// The server reads on demand: as long as its handler does not pull, the socket stands still.
const mayRead = Latch.makeUnsafe()

const Server = WebSocketServer.serve(
  Effect.fn("server")(function*(connection) {
    yield* mayRead.await
    const bytes = yield* connection.messages.pipe(
      Stream.take(messages),
      Stream.runFold(() => 0, (bytes, message) => bytes + message.length)
    )
    yield* connection.send(`${mebibytes(bytes)} arrived`)
  })
).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

const url = WebSocketServer.WebSocketServer.useSync((server) => server.url)

const usedMemory = Effect.sync(() => process.memoryUsage().heapUsed + process.memoryUsage().external)

const program = Effect.gen(function*() {
  const connection = yield* WebSocketClient.connect(yield* url)
  const usedBefore = yield* usedMemory

  let sent = 0
  const sender = yield* connection.send(message).pipe(
    Effect.tap(() => Effect.sync(() => sent++)),
    Effect.repeat({ times: messages - 1 }),
    Effect.forkChild({ startImmediately: true })
  )

  const memoryGrowth = Effect.map(usedMemory, (used) => used - usedBefore)
  const standsStill = Effect.gen(function*() {
    const sentBefore = sent
    yield* Effect.sleep("100 millis")
    const queued = `${yield* connection.queuedMessages} messages (${mebibytes(yield* connection.queuedBytes)}) queued`
    yield* Console.log(`${mebibytes(sent * message.length)} sent, ${queued}, memory +${mebibytes(yield* memoryGrowth)}`)
    return sent === sentBefore
  })
  yield* Effect.repeat(standsStill, { until: (still) => still })
  if (sent === messages) return yield* Effect.die("nothing held the sender back")
  if ((yield* memoryGrowth) > 16 * 1024 * 1024) return yield* Effect.die("what cannot be sent is held in memory")
  yield* Console.log("send is suspended; now the server begins to read")

  yield* mayRead.open
  yield* Fiber.join(sender)
  yield* Console.log(yield* connection.receive)
})

program.pipe(
  Effect.scoped,
  Effect.provide([Server, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
