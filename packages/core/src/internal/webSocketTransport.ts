/**
 * A transport over a `WebSocket` of the platform.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as MutableList from "effect/MutableList"
import type { Options, PlatformWebSocket } from "../BrowserWebSocketClient.ts"
import type { Message } from "../Message.ts"
import * as CloseFrame from "../protocol/CloseFrame.ts"
import { Engine } from "../protocol/Engine.ts"
import { Opcode } from "../protocol/Frame.ts"
import { encode, FrameEncoder } from "../protocol/FrameEncoder.ts"
import { portable, type Utf8Codec } from "../protocol/Utf8.ts"
import type { Capability, Transport, TransportHandler } from "../Transport.ts"

// How much the platform may hold of what was sent, before the rest waits in the queue; and how often it is asked. The timers
// of a page in the background fire once a second, so this is also what it can send in that time.
const maxBufferedAmount = 256 * 1024
const pollInterval = Duration.millis(10)

// What is handed over at once of that which had to wait.
const batchBytes = 64 * 1024

// As in `ReceiveQueue`: without it, empty messages would fill the memory for free.
const messageOverhead = 32
const weight = (message: Message): number => message.length + messageOverhead

// Text that the platform has decoded, or this side has encoded, is not validated again.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
export const trusting: Utf8Codec = {
  ...portable,
  isValid: () => true,
  decode: (bytes, start, end) => decoder.decode(bytes.subarray(start, end))
}

const readyStateOpen = 1
const none: ReadonlySet<Capability> = new Set()

type CloseEvent = Pick<globalThis.CloseEvent, "code" | "reason" | "wasClean">

// The socket lives, has ended, or is nobody's any more: its end was told, or not waited for.
type Life = { readonly _tag: "Live" } | { readonly _tag: "Ended"; readonly event: CloseEvent } | {
  readonly _tag: "Left"
}

interface TransportOptions {
  readonly maxUnreadBytes: number
  readonly unreadOverflow: NonNullable<Options["unreadOverflow"]>
}

/**
 * Stands in for the wire and for the other end of it: takes the messages out of the frames that the connection writes, and
 * makes frames of the messages that the platform has received. So the connection over it is the same as over any other
 * transport, with its queues, limits and ends.
 */
export class WebSocketTransport implements Transport {
  readonly peerAddress = undefined
  readonly localAddress = undefined
  readonly capabilities = none
  /** Messages that were dropped because nobody took those before them. */
  dropped = 0

  private readonly socket: PlatformWebSocket
  private readonly options: TransportOptions
  private readonly runFork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private handler: TransportHandler | undefined
  private readonly written = new Engine({
    role: "server",
    limits: { maxMessageBytes: Infinity, maxFragments: Infinity, maxControlFramesPerSecond: Infinity },
    utf8: trusting
  })
  private readonly encoder = new FrameEncoder({ maskKey: undefined, utf8: trusting })

  private isPaused = false
  private isOverrun = false
  private readonly unread = MutableList.make<Message>()
  private unreadBytes = 0
  private isBusy = false
  private polling: Fiber.Fiber<void> | undefined
  private life: Life = { _tag: "Live" }
  // What the socket told before its end.
  private cause: unknown

  /** Takes over a socket before anything has come of it. */
  constructor(
    socket: PlatformWebSocket,
    options: TransportOptions,
    runFork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.socket = socket
    this.options = options
    this.runFork = runFork
    socket.addEventListener("message", ({ data }) => {
      this.receive(typeof data === "string" ? data : new Uint8Array(data))
    })
    socket.addEventListener("error", (event) => {
      this.cause = causeOf(event)
    })
    socket.addEventListener("close", (event) => {
      if (this.life._tag !== "Live") return
      this.life = { _tag: "Ended", event }
      this.flow()
    })
  }

  start(handler: TransportHandler): void {
    queueMicrotask(() => {
      // Something may have come before.
      this.handler = handler
      if (this.isOverrun) handler.onOverrun()
      this.flow()
    })
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
    queueMicrotask(() => this.flow())
  }

  write(chunks: ReadonlyArray<Uint8Array>): boolean {
    const { socket, written } = this
    const events = chunks.flatMap((chunk) => written.receive(chunk, 0))
    const messages = written.takeMessages() ?? []
    // What it is given now would be dropped without a word. Its end comes soon.
    if (messages.length > 0 && socket.readyState !== readyStateOpen) return false
    for (const message of messages) socket.send(message as string | Uint8Array<ArrayBuffer>)
    for (const event of events) if (event._tag === "Close") this.close(event.close)
    this.isBusy = socket.bufferedAmount > maxBufferedAmount
    if (this.isBusy) this.polling ??= this.runFork(this.poll())
    return !this.isBusy
  }

  // The platform ends the socket when both Close frames are exchanged.
  end(): void {}

  destroy(): void {
    if (this.life._tag === "Left") return
    this.leave()
    // Without a code, it would look like an ordinary end.
    this.socket.close(closeCodeFor(1006))
    queueMicrotask(() => this.handler?.onClose(undefined))
  }

  private close({ code, reason }: CloseFrame.CloseFrame): void {
    if (code !== undefined) this.socket.close(closeCodeFor(code), reason)
  }

  private receive(message: Message): void {
    if (this.life._tag !== "Live" || this.isOverrun) return
    // A page in the background gets messages more often than its timers fire.
    this.look()
    const { unreadOverflow } = this.options
    const size = weight(message)
    if (!this.hasRoom(size)) {
      if (unreadOverflow === "close") return this.overrun()
      if (unreadOverflow === "drop-newest") {
        this.dropped++
        return
      }
      while (!this.hasRoom(size)) {
        this.takeUnread()
        this.dropped++
      }
    }
    MutableList.append(this.unread, message)
    this.unreadBytes += size
    this.flow()
  }

  private hasRoom(size: number): boolean {
    return this.unread.length === 0 || this.unreadBytes + size <= this.options.maxUnreadBytes
  }

  private takeUnread(): Message {
    const message = MutableList.take(this.unread) as Message
    this.unreadBytes -= weight(message)
    return message
  }

  // An early end is better than a gap.
  private overrun(): void {
    this.isOverrun = true
    this.handler?.onOverrun()
  }

  // Hands over what is there, as far as the connection wants it; at the end, all of it.
  private flow(): void {
    const { handler } = this
    if (handler === undefined) return
    while (this.unread.length > 0 && (!this.isPaused || this.life._tag === "Ended")) this.deliver(handler)
    if (this.life._tag === "Ended") this.finish(handler, this.life.event)
  }

  private deliver(handler: TransportHandler): void {
    while (this.unread.length > 0 && this.encoder.bytes < batchBytes) {
      const message = this.takeUnread()
      if (typeof message === "string") this.encoder.text(message, trusting.byteLength(message))
      else this.encoder.frame(Opcode.binary, message, true)
    }
    for (const chunk of this.encoder.take()) handler.onData(chunk)
    this.encoder.release(true)
  }

  private finish(handler: TransportHandler, { code, reason, wasClean }: CloseEvent): void {
    this.leave()
    // Without a code, the event has 1005; with 1006, there was no Close.
    if (!wasClean || code === 1006) return handler.onClose(this.cause ?? undisclosed)
    // Our Close has arrived, and so has all before it.
    if (this.isBusy && this.written.state._tag !== "Open") handler.onDrain()
    const payload = CloseFrame.encode({ code: code === 1005 ? undefined : code, reason }, trusting)
    handler.onData(encode({ fin: true, rsv: 0, opcode: Opcode.close, payload }, undefined))
    handler.onEnd()
    handler.onClose(undefined)
  }

  // There is no event that tells when the platform has sent something.
  private poll(): Effect.Effect<void> {
    return Effect.flatMap(Effect.sleep(pollInterval), () => {
      this.look()
      if (this.isBusy) return this.poll()
      this.polling = undefined
      return Effect.void
    })
  }

  private look(): void {
    if (!this.isBusy || this.socket.bufferedAmount > maxBufferedAmount) return
    this.isBusy = false
    this.handler?.onDrain()
  }

  private leave(): void {
    this.life = { _tag: "Left" }
    MutableList.clear(this.unread)
    this.polling?.interruptUnsafe()
  }
}

// `close` of a browser takes only 1000 and 3000 to 4999. Going away is an ordinary end; the others tell of a failure, and
// keep their last digits.
const closeCodeFor = (code: number): number => {
  if (code === 1000 || code >= 3000) return code
  return code === 1001 ? 1000 : code + 3000
}

const undisclosed = "the platform does not tell why"

/** What an error event has, if anything: in a browser, nothing. */
export interface ErrorInfo {
  readonly error?: unknown
  readonly message?: unknown
}

export const causeOf = (event: ErrorInfo): unknown => event.error || event.message || undisclosed
