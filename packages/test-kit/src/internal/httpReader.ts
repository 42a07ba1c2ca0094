/**
 * Responses as a client of the tests reads them: the head is taken apart, and nothing is judged.
 *
 * @since 0.1.0
 */
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import type { Transport, TransportHandler } from "@effect-ws/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { concat, copy } from "./frameScanner.ts"

/** The head of a response, and the connection behind it. */
export interface Answer {
  readonly status: number
  readonly headers: Handshake.Headers
  readonly transport: Transport
}

/** Starts a transport and reads the head of a response; what follows waits for whoever starts the answer's transport. */
export class HttpReader {
  private readonly answered = Deferred.makeUnsafe<Answer | undefined>()
  private readonly over = Deferred.makeUnsafe<void>()
  private readonly transport: Transport
  private received: Uint8Array = new Uint8Array(0)
  private next: TransportHandler | undefined
  private end: { isClosed: boolean; cause: unknown } | undefined

  readonly answer: Effect.Effect<Answer | undefined> = Deferred.await(this.answered)
  /** The end of what the other side sends. */
  readonly ended: Effect.Effect<void> = Deferred.await(this.over)

  constructor(transport: Transport) {
    this.transport = transport
    transport.start({
      onData: (chunk) => {
        if (this.next !== undefined) return this.next.onData(chunk)
        this.received = concat([this.received, copy(chunk)])
        this.read()
      },
      onDrain: () => this.next?.onDrain(),
      onOverrun: () => this.next?.onOverrun(),
      onEnd: () => {
        this.end ??= { isClosed: false, cause: undefined }
        this.finish()
        this.next?.onEnd()
      },
      onClose: (cause) => {
        this.end = { isClosed: true, cause }
        this.finish()
        this.next?.onClose(cause)
      }
    })
  }

  private finish(): void {
    Deferred.doneUnsafe(this.answered, Effect.succeed(undefined))
    Deferred.doneUnsafe(this.over, Effect.void)
  }

  private read(): void {
    const text = Array.from(this.received, (byte) => String.fromCharCode(byte)).join("")
    const end = text.indexOf("\r\n\r\n")
    if (end < 0 || Deferred.isDoneUnsafe(this.answered)) return
    const [statusLine = "", ...lines] = text.slice(0, end).split("\r\n")
    const headers = Handshake.headersOf(lines.flatMap((line) => {
      const colon = line.indexOf(":")
      return [line.slice(0, colon), line.slice(colon + 1).trim()]
    }))
    this.received = this.received.slice(end + 4)
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(statusLine)?.[1])
    // What follows a refusal is its body, and of no interest.
    Deferred.doneUnsafe(this.answered, Effect.succeed({ status, headers, transport: this.rest() }))
  }

  private rest(): Transport {
    const { transport } = this
    return {
      peerAddress: transport.peerAddress,
      localAddress: transport.localAddress,
      capabilities: transport.capabilities,
      start: (handler) => {
        this.next = handler
        if (this.received.length > 0) handler.onData(this.received)
        const { end } = this
        if (end !== undefined) queueMicrotask(() => end.isClosed ? handler.onClose(end.cause) : handler.onEnd())
      },
      pause: () => transport.pause(),
      resume: () => transport.resume(),
      write: (chunks) => transport.write(chunks),
      end: () => transport.end(),
      destroy: () => transport.destroy()
    }
  }
}
