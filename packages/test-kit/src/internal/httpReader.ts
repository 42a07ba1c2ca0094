/**
 * Requests and responses as the tests read them: the head is taken apart, and nothing is judged.
 *
 * @since 0.1.0
 */
import type { Transport, TransportHandler } from "@effect-ws/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { concat, copy } from "./frameScanner.ts"

/** The head of a message, line by line, and the connection behind it. */
export interface Head {
  readonly startLine: string
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
  readonly transport: Transport
}

/** Starts a transport and reads the head of a message; what follows waits for whoever starts the head's transport. */
export class HttpReader {
  private readonly found = Deferred.makeUnsafe<Head | undefined>()
  private readonly over = Deferred.makeUnsafe<void>()
  private readonly transport: Transport
  private drained = Deferred.makeUnsafe<void>()
  private received: Uint8Array = new Uint8Array(0)
  private next: TransportHandler | undefined
  private end: { isClosed: boolean; cause: unknown } | undefined

  /** Without one, `undefined` once the other side has ended. */
  readonly head: Effect.Effect<Head | undefined> = Deferred.await(this.found)
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
      onDrain: () => {
        Deferred.doneUnsafe(this.drained, Effect.void)
        this.next?.onDrain()
      },
      onOverrun: () => this.next?.onOverrun(),
      onEnd: () => {
        this.end ??= { isClosed: false, cause: undefined }
        this.finish()
        this.next?.onEnd()
      },
      onClose: (cause) => {
        this.end = { isClosed: true, cause }
        this.finish()
        Deferred.doneUnsafe(this.drained, Effect.void)
        this.next?.onClose(cause)
      }
    })
  }

  /** Writes, and waits until more may be written, or for the end. */
  send(bytes: Uint8Array): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.drained = Deferred.makeUnsafe()
      const isTaken = this.transport.write([bytes])
      return isTaken ? Effect.void : Deferred.await(this.drained)
    })
  }

  private finish(): void {
    Deferred.doneUnsafe(this.found, Effect.succeed(undefined))
    Deferred.doneUnsafe(this.over, Effect.void)
  }

  private read(): void {
    const text = Array.from(this.received, (byte) => String.fromCharCode(byte)).join("")
    const end = text.indexOf("\r\n\r\n")
    if (end < 0 || Deferred.isDoneUnsafe(this.found)) return
    const [startLine = "", ...lines] = text.slice(0, end).split("\r\n")
    const headers = lines.map((line) => {
      const colon = line.indexOf(":")
      return [line.slice(0, Math.max(colon, 0)), line.slice(colon + 1).trim()] as const
    })
    this.received = this.received.slice(end + 4)
    // What follows a refusal is its body, and of no interest.
    Deferred.doneUnsafe(this.found, Effect.succeed({ startLine, headers, transport: this.rest() }))
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
