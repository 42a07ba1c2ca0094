/**
 * What the tests run inside a page, each on a connection of its own. It answers with what can be told in JSON.
 */
import * as BrowserWebSocketClient from "@effect-ws/core/BrowserWebSocketClient"
import type { Connection } from "@effect-ws/core/Connection"
import * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

const event = (connection: Connection) => Effect.map(connection.closed, (event) => ({ ...event }))

const endOf = (connection: Connection) =>
  Stream.runDrain(connection.messages).pipe(
    Effect.as("an ordinary end"),
    Effect.catch((error) => Effect.succeed(error.reason._tag)),
    Effect.flatMap((end) => Effect.map(event(connection), (event) => ({ end, event })))
  )

type Scenario = (url: string) => Effect.Effect<unknown, unknown, WebSocketClient.WebSocketClient | Scope.Scope>

const scenarios = {
  // Sends back what comes, until the other side closes.
  echo: Effect.fnUntraced(function*(url: string) {
    const connection = yield* WebSocketClient.connect(url, { subprotocols: ["v2.echo", "v1.echo"] })
    yield* Stream.runForEach(connection.messages, (message) => connection.send(message))
    return {
      subprotocol: Option.getOrNull(connection.subprotocol),
      extensions: connection.extensions.map(({ name }) => name),
      capabilities: [...connection.capabilities],
      event: yield* event(connection)
    }
  }),

  // Sends more than the other side takes before it is told to, and waits until all has left.
  upload: Effect.fnUntraced(function*(url: string) {
    const connection = yield* WebSocketClient.connect(url, { maxQueuedBytes: 256 * 1024 })
    const message = new Uint8Array(64 * 1024)
    let accepted = 0
    while (connection.sendUnsafe(message) === "Accepted") accepted++
    const queuedBytes = yield* connection.queuedBytes
    const rest = Array.from({ length: 300 - accepted }, () => message)
    const sending = yield* Effect.forkChild(connection.sendAll(rest), { startImmediately: true })
    const isSuspended = sending.pollUnsafe() === undefined
    yield* Fiber.join(sending)
    yield* connection.drained
    yield* connection.close()
    return { accepted, queuedBytes, isSuspended, event: yield* event(connection) }
  }),

  // Does not read until the end is there.
  flood: Effect.fnUntraced(function*(url: string) {
    const connection = yield* WebSocketClient.connect(url)
    yield* connection.closed
    return yield* endOf(connection)
  }, Effect.provide(BrowserWebSocketClient.layerWith({ maxUnreadBytes: 256 * 1024 }))),

  listen: Effect.fnUntraced(function*(url: string) {
    return yield* endOf(yield* WebSocketClient.connect(url))
  }),

  close: Effect.fnUntraced(function*(url: string) {
    const connection = yield* WebSocketClient.connect(url)
    yield* connection.send("last words")
    yield* connection.close(1011, "Grüße")
    return yield* endOf(connection)
  }),

  abort: Effect.fnUntraced(function*(url: string) {
    const connection = yield* WebSocketClient.connect(url)
    yield* connection.abort
    return yield* event(connection)
  }),

  leave: (url: string) => Effect.as(WebSocketClient.connect(url), "left"),

  fail: Effect.fnUntraced(function*(url: string) {
    const { reason } = yield* Effect.flip(WebSocketClient.connect(url))
    return reason._tag
  }),

  interrupt: Effect.fnUntraced(function*(url: string) {
    return yield* Effect.timeoutOption(WebSocketClient.connect(url), "500 millis").pipe(Effect.map(Option.isNone))
  })
} satisfies Record<string, Scenario>

export type Name = keyof typeof scenarios

declare global {
  var run: (name: Name, url: string) => Promise<string>
}

globalThis.run = (name, url) =>
  (scenarios[name] as Scenario)(url).pipe(
    Effect.scoped,
    Effect.map((result) => JSON.stringify(result)),
    Effect.provide(BrowserWebSocketClient.layer),
    Effect.runPromise
  )
