/**
 * The client of browsers: the same program as in a page, here on Node's own `WebSocket`.
 *
 *     npx node examples/browser-client.ts
 *
 * What the platform cannot do is missing in the capabilities, and fails with `Unsupported`. It cannot hold the server back
 * either: what nobody takes is kept up to a bound, and then, by default, the connection is closed. In `examples/page`, the
 * client runs in a page.
 */
import { BrowserWebSocketClient, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"

const Echo = WebSocketServer.serve(
  (connection) => Stream.runForEach(connection.messages, (message) => connection.send(message)),
  { path: "/echo" }
)
const Ticker = WebSocketServer.serve(
  (connection) => Stream.range(1, 1_000_000).pipe(Stream.runForEach((n) => connection.send(`tick ${n}`))),
  { path: "/ticker" }
)
const Server = Layer.mergeAll(Echo, Ticker).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

const url = WebSocketServer.WebSocketServer.useSync((server) => server.url)

const echo = Effect.gen(function*() {
  const connection = yield* WebSocketClient.connect(`${yield* url}/echo`)
  yield* connection.send("hello")
  yield* Console.log(`echo: ${String(yield* connection.receive)}`)
  const canPing = connection.capabilities.has("ControlFrames")
  const ping = yield* Effect.flip(connection.ping)
  yield* Console.log(`can it ping? ${canPing ? "yes" : "no"}: ${ping.reason._tag}`)
})

const refused = Effect.gen(function*() {
  const { message } = yield* Effect.flip(WebSocketClient.connect(yield* url, { headers: { authorization: "secret" } }))
  yield* Console.log(message)
  const { reason } = yield* Effect.flip(WebSocketClient.connect(`${yield* url}/missing`))
  yield* Console.log(`a path that is not served: ${reason._tag}`)
})

const overrun = Effect.gen(function*() {
  const connection = yield* WebSocketClient.connect(`${yield* url}/ticker`)
  // Nobody receives until the end.
  yield* connection.closed
  const error = yield* Effect.flip(Stream.runDrain(connection.messages))
  yield* Console.log(`too slow: ${error.message}`)
})

Effect.all([echo, refused, overrun]).pipe(
  Effect.scoped,
  Effect.provide([Server, BrowserWebSocketClient.layerWith({ maxUnreadBytes: 64 * 1024 })]),
  NodeRuntime.runMain
)
