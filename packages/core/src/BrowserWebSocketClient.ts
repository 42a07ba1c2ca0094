/**
 * The client in a browser, and wherever else there is a global `WebSocket`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Attachment from "./Attachment.ts"
import * as Connection from "./Connection.ts"
import { causeOf, type ErrorInfo, trusting, WebSocketTransport } from "./internal/webSocketTransport.ts"
import { parseExtensions } from "./protocol/ExtensionHeader.ts"
import { checkSubprotocols } from "./protocol/Handshake.ts"
import { type Attempt, makeWith, WebSocketClient } from "./WebSocketClient.ts"
import {
  BadUpgrade,
  type ConnectError,
  ConnectTimeout,
  InvalidRequest,
  InvalidUrl,
  Undisclosed,
  Unsupported
} from "./WebSocketError.ts"

/**
 * A `WebSocket` of the platform, as far as it is used here (WHATWG WebSockets, section 3.1).
 *
 * @category models
 * @since 0.1.0
 */
export interface PlatformWebSocket {
  readonly readyState: number
  readonly protocol: string
  readonly extensions: string
  readonly bufferedAmount: number
  binaryType: string
  // Each platform has event classes of its own.
  addEventListener(type: "open" | "message" | "error" | "close", listener: (event: any) => void): void
  send(data: string | Uint8Array<ArrayBuffer>): void
  close(code?: number, reason?: string): void
}

/**
 * The options of a client, for all of its connections.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `webSocket` | `globalThis.WebSocket` | the class whose instances carry the connections |
 * | `maxUnreadBytes` | 16 MiB | what may wait beyond a full receive buffer; a single larger message is kept |
 * | `unreadOverflow` | `"close"` | what happens to a message that finds no room there |
 *
 * A character of a text counts as a byte, and each message as 32 bytes more. The policies are:
 *
 * - `"close"`: the connection is closed, and receiving fails with `ReceiveOverflow` behind what fits into the receive buffer.
 * - `"drop-newest"`: the message is dropped.
 * - `"drop-oldest"`: the messages that have waited longest are dropped to make room.
 *
 * What was dropped, {@link droppedMessages} tells.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly webSocket?: (new(url: string, subprotocols: Array<string>) => PlatformWebSocket) | undefined
  readonly maxUnreadBytes?: number | undefined
  readonly unreadOverflow?: "close" | "drop-newest" | "drop-oldest" | undefined
}

/**
 * Provides `WebSocketClient` over the platform's own `WebSocket`.
 *
 * **When to use**
 *
 * In pages and workers of a browser; also on Deno, Bun and Node. There, a client over sockets can do more.
 *
 * **Details**
 *
 * Queues, overflow policies, `drained`, `closed`, the close timeout and the ends of scopes are the same as over sockets.
 * What the platform cannot do is missing in `Connection.capabilities`, and fails with `Unsupported`:
 *
 * - The options `headers`, `heartbeat`, `deflate`, `maxRedirects` and `basicAuth` of `connect`, but for `false` and 0. The
 *   platform decides on compression, and on redirects. It answers the server's pings by itself, and whether the server is
 *   alive nobody here knows.
 * - `ping`, `sendPing`, `sendPong` and `sendStream`.
 *
 * What arrives while nobody receives is kept, up to `receiveBufferBytes` and `maxUnreadBytes` (see {@link Options}).
 *
 * A close code other than 1000 and 3000 to 4999 cannot be sent: 1001 becomes 1000, the others have 3000 added, so that
 * 1011 becomes 4011.
 *
 * **Gotchas**
 *
 * Why a connection was not established, or was lost, a browser keeps from programs: the reasons are `Undisclosed` and
 * `ConnectionLost`, and their causes say no more.
 *
 * A URL is to be absolute, and its scheme `ws` or `wss`.
 *
 * **Example** (Asking the server of a page)
 *
 * ```ts
 * import { BrowserWebSocketClient, WebSocketClient } from "@effect-ws/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const connection = yield* WebSocketClient.connect(new URL("/time", location.href.replace("http", "ws")))
 *   yield* connection.send("now")
 *   return yield* connection.receive
 * })
 *
 * program.pipe(Effect.scoped, Effect.provide(BrowserWebSocketClient.layer), Effect.runPromise)
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<WebSocketClient> = Layer.suspend(() => layerWith({}))

/**
 * Provides `WebSocketClient` over the platform's own `WebSocket`, with options.
 *
 * **Example** (A ticker, of which only the latest counts)
 *
 * ```ts
 * import { BrowserWebSocketClient } from "@effect-ws/core"
 *
 * const Ticker = BrowserWebSocketClient.layerWith({ maxUnreadBytes: 16 * 1024, unreadOverflow: "drop-oldest" })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (clientOptions: Options): Layer.Layer<WebSocketClient> =>
  Layer.effect(WebSocketClient, makeWith(establish(clientOptions)))

const Dropped = Attachment.make<() => number>("DroppedMessages")

/**
 * How many of a connection's messages were dropped by `unreadOverflow`.
 *
 * @category observing
 * @since 0.1.0
 */
export const droppedMessages = (connection: Connection.Connection): Effect.Effect<number> =>
  Effect.map(connection.attachment(Dropped), Option.match({ onNone: () => 0, onSome: (dropped) => dropped() }))

type Reason = ConnectError["reason"]

const establish = ({ maxUnreadBytes = 16 * 1024 * 1024, unreadOverflow = "close", webSocket }: Options) =>
  Effect.fnUntraced(function*(attempt: Attempt): Effect.fn.Return<Connection.Connection, Reason, Scope.Scope> {
    const refused = refusalOf(attempt)
    if (refused !== undefined) return yield* refused
    const { input, metrics, options, restore, url } = attempt
    const { subprotocols = [] } = options
    const settings = yield* Connection.settings({
      ...options,
      metrics,
      heartbeat: undefined,
      // The platform masks what really goes out.
      maskKey: () => 0,
      utf8: trusting
    })
    const socket = yield* construct(() => new (webSocket ?? globalThis.WebSocket)(input, [...subprotocols]))
    // It takes the socket over at once: messages may come before the connection is made.
    const transport = new WebSocketTransport(socket, { maxUnreadBytes, unreadOverflow }, settings.runFork)
    yield* restore(Effect.timeoutOrElse(opened(socket), {
      duration: options.connectTimeout ?? "10 seconds",
      orElse: () => Effect.fail(new ConnectTimeout({}))
    })).pipe(Effect.onError(() => Effect.sync(() => transport.destroy())))
    // The platform refuses what was not offered, but some take none.
    if (subprotocols.length > 0 && !subprotocols.includes(socket.protocol)) {
      transport.destroy()
      return yield* new BadUpgrade({ section: "4.1", detail: "the server chose none of the subprotocols offered" })
    }
    const connection = yield* Connection.make(transport, settings, {
      handshake: {
        subprotocol: socket.protocol || undefined,
        extensions: parseExtensions(socket.extensions) ?? [],
        request: { url: url.target, headers: {} },
        response: { status: 101, headers: {} }
      }
    })
    yield* connection.attach(Dropped, () => transport.dropped)
    return connection
  })

const dishonoured = ["headers", "heartbeat", "deflate", "maxRedirects", "basicAuth"] as const

const refusalOf = ({ input, options, url }: Attempt): Reason | undefined => {
  if (url.socketPath !== undefined) {
    return new InvalidUrl({ url: input, detail: "the platform does not connect to Unix sockets" })
  }
  // `false` and 0 ask for nothing.
  const feature = dishonoured.find((option) => Boolean(options[option]))
  if (feature !== undefined) return new Unsupported({ feature })
  const invalid = checkSubprotocols(options.subprotocols ?? [])
  return invalid && new InvalidRequest({ detail: invalid.detail })
}

// It refuses URLs, and what the page's policy forbids; or there is no such class.
const construct = (make: () => PlatformWebSocket): Effect.Effect<PlatformWebSocket, InvalidRequest> =>
  Effect.try({
    try: () => {
      const socket = make()
      socket.binaryType = "arraybuffer"
      return socket
    },
    catch: (cause) => new InvalidRequest({ detail: String(cause) })
  })

const opened = (socket: PlatformWebSocket): Effect.Effect<void, Undisclosed> =>
  Effect.callback((resume) => {
    const fail = (event: ErrorInfo) => resume(Effect.fail(new Undisclosed({ cause: causeOf(event) })))
    socket.addEventListener("open", () => resume(Effect.void))
    socket.addEventListener("error", fail)
    socket.addEventListener("close", fail)
  })
