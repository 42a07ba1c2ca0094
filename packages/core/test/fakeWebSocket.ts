import * as BrowserWebSocketClient from "@effect-ws/core/BrowserWebSocketClient"
import * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import { Effect, Fiber } from "effect"
import { settle } from "./fixture.ts"

const event = (type: string, fields: object = {}) => Object.assign(new Event(type), fields)

/**
 * A `WebSocket` as the standard has it (WHATWG WebSockets, section 3), whose network is played by the test. What is sent
 * leaves at once, unless the socket is stalled.
 */
export class FakeWebSocket extends EventTarget {
  readonly url: string
  readonly subprotocols: ReadonlyArray<string>
  readyState = 0
  protocol = ""
  extensions = ""
  binaryType = "blob"
  /** Messages and calls of `close`, in order. */
  readonly calls: Array<string> = []
  /** Messages that were given to a socket that was not open: it says nothing. */
  readonly swallowed: Array<string> = []
  /** How often somebody asked for `bufferedAmount`. */
  asked = 0
  private isStalled = false
  private buffered = 0

  constructor(url: string, subprotocols: ReadonlyArray<string>) {
    super()
    this.url = url
    this.subprotocols = subprotocols
  }

  get bufferedAmount(): number {
    this.asked++
    return this.buffered
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    if (this.readyState === 0) throw new DOMException("still connecting", "InvalidStateError")
    const shown = typeof data === "string" ? data : data.join(",")
    if (this.readyState > 1) return void this.swallowed.push(shown)
    this.calls.push(shown.length > 40 ? `${shown.length} bytes` : shown)
    if (this.isStalled) this.buffered += data.length
  }

  close(code?: number, reason = ""): void {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException(`${code}`, "InvalidAccessError")
    }
    if (new TextEncoder().encode(reason).length > 123) throw new DOMException("too long", "SyntaxError")
    if (this.readyState > 1) return
    this.calls.push(["close", ...(code === undefined ? [] : [code, reason])].join(" ").trimEnd())
    const wasConnecting = this.readyState === 0
    this.readyState = 2
    if (wasConnecting) queueMicrotask(() => this.fail())
  }

  open(protocol = "", extensions = ""): void {
    Object.assign(this, { readyState: 1, protocol, extensions })
    this.dispatchEvent(event("open"))
  }

  receive(...messages: ReadonlyArray<string | Uint8Array>): void {
    for (const message of messages) {
      // `Uint8Array.from` makes an `ArrayBuffer` that has nothing else in it.
      const data = typeof message === "string" ? message : Uint8Array.from(message).buffer
      if (this.readyState === 1 || this.readyState === 2) this.dispatchEvent(event("message", { data }))
    }
  }

  stall(): void {
    this.isStalled = true
  }

  /** The network takes what was sent. */
  flow(): void {
    this.isStalled = false
    this.buffered = 0
  }

  /** The peer has begun to close, and the socket has answered. */
  closing(): void {
    this.readyState = 2
  }

  /** Both Close frames are exchanged, and the socket is gone. */
  closed(code: number, reason = "", wasClean = true): void {
    this.readyState = 3
    this.dispatchEvent(event("close", { code, reason, wasClean }))
  }

  /** The socket is gone without a Close frame, or was never there. */
  fail(): void {
    this.readyState = 3
    this.dispatchEvent(event("error"))
    this.closed(1006, "", false)
  }
}

/** A class of fakes, and its instances in the order in which they were made. */
export const fakes = () => {
  const sockets: Array<FakeWebSocket> = []
  const webSocket: new(url: string, subprotocols: ReadonlyArray<string>) => FakeWebSocket = class
    extends FakeWebSocket
  {
    constructor(url: string, subprotocols: ReadonlyArray<string>) {
      super(url, subprotocols)
      sockets.push(this)
    }
  }
  return { sockets, webSocket }
}

/** A client whose sockets are fakes. */
export const makeClient = (options: BrowserWebSocketClient.Options = {}) => {
  const { sockets, webSocket } = fakes()
  const layer = BrowserWebSocketClient.layerWith({ webSocket, ...options })
  const connect = (url: string | URL, connectOptions?: WebSocketClient.ConnectOptions) =>
    Effect.provide(WebSocketClient.connect(url, connectOptions), layer)
  return { sockets, connect }
}

export const url = "wss://example.org/path?query"

/** A connection over a fake; the end of the test does not wait for its closing handshake. */
export const connect = Effect.fnUntraced(
  function*(connectOptions?: WebSocketClient.ConnectOptions, options?: BrowserWebSocketClient.Options) {
    const client = makeClient(options)
    const connecting = yield* Effect.forkChild(client.connect(url, connectOptions), { startImmediately: true })
    const socket = client.sockets[0]!
    socket.open()
    const connection = yield* Fiber.join(connecting)
    yield* Effect.addFinalizer(() => connection.abort)
    // Events come in tasks of their own.
    yield* settle
    return { connection, socket }
  }
)
