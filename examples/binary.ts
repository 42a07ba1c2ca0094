/**
 * Binary messages: bytes travel as a `Uint8Array`, and a large message can be sent while it is being made.
 *
 *     npx node examples/binary.ts
 *
 * The client sends three bytes, then 32 MiB from a stream: one message, a fragment for each element, of which no more
 * exist at a time than the outbound queue holds. The server answers with the length and the digest of what arrived.
 */
import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import { createHash } from "node:crypto"

const fragmentBytes = 64 * 1024
const fragments = 512

const describe = (bytes: Uint8Array) =>
  `${bytes.length} bytes, SHA-256 ${createHash("sha256").update(bytes).digest("hex")}`

const Server = WebSocketServer.serve((connection) =>
  Stream.runForEach(
    connection.messages,
    (message) => connection.send(typeof message === "string" ? "only bytes, please" : describe(message))
  )
).pipe(
  // A message may have 1 MiB, unless the server says otherwise.
  Layer.provideMerge(NodeWebSocketServer.layer({ port: 0, maxMessageBytes: fragments * fragmentBytes }))
)

const url = WebSocketServer.WebSocketServer.useSync((server) => server.url)

const program = Effect.gen(function*() {
  const connection = yield* WebSocketClient.connect(yield* url)

  yield* connection.send(Uint8Array.of(1, 2, 3))
  yield* Console.log(yield* connection.receive)

  const digest = createHash("sha256")
  const upload = Stream.range(0, fragments - 1, 1).pipe(
    Stream.map((n) => new Uint8Array(fragmentBytes).fill(n)),
    Stream.tap((fragment) => Effect.sync(() => digest.update(fragment)))
  )
  yield* connection.sendStream(upload)
  const answer = yield* connection.receive
  yield* Console.log(answer)

  const expected = `${fragments * fragmentBytes} bytes, SHA-256 ${digest.digest("hex")}`
  if (answer !== expected) return yield* Effect.die(`expected ${expected}`)
})

program.pipe(
  Effect.scoped,
  Effect.provide([Server, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
