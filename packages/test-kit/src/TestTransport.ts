/**
 * Transports in memory: two ends of a link, without sockets.
 *
 * @since 0.1.0
 */
import type { Transport, TransportHandler } from "@effect-ws/core/Transport"

/**
 * How a link behaves.
 *
 * **Details**
 *
 * `bufferBytes` is what one direction holds before its writer has to wait; default 64 KiB. `chunkBytes` is the largest
 * chunk that is delivered at once; by default what was written at once.
 *
 * @category models
 * @since 0.1.0
 */
export interface LinkOptions {
  readonly bufferBytes?: number | undefined
  readonly chunkBytes?: number | undefined
}

class End implements Transport {
  readonly peerAddress = undefined
  readonly localAddress = undefined
  peer!: End

  private readonly bufferBytes: number
  private readonly chunkBytes: number
  private handler: TransportHandler | undefined
  private inbound: Array<Uint8Array> = []
  private inboundBytes = 0
  private flowing = true
  private scheduled = false
  // What the peer has ended, and what was told of it; what this end has ended; whether all is over.
  private reading: "Open" | "Ending" | "Ended" = "Open"
  private hasEnded = false
  private isClosed = false
  private isPeerWaiting = false

  constructor(options: LinkOptions) {
    this.bufferBytes = options.bufferBytes ?? 64 * 1024
    this.chunkBytes = options.chunkBytes ?? Infinity
  }

  start(handler: TransportHandler): void {
    this.handler = handler
    this.schedule()
  }

  pause(): void {
    this.flowing = false
  }

  resume(): void {
    this.flowing = true
    this.schedule()
  }

  write(chunks: ReadonlyArray<Uint8Array>): boolean {
    if (this.hasEnded || this.isClosed || this.peer.isClosed) return true
    return this.peer.accept(chunks)
  }

  end(): void {
    if (this.hasEnded || this.isClosed) return
    this.hasEnded = true
    this.peer.peerEnded()
    this.closeIfOver()
  }

  destroy(): void {
    if (this.isClosed) return
    this.close(undefined)
    this.peer.close(new Error("connection reset"))
  }

  private accept(chunks: ReadonlyArray<Uint8Array>): boolean {
    for (const chunk of chunks) {
      for (let at = 0; at < chunk.length; at += this.chunkBytes) {
        // The reader may overwrite what it is given, so it is never the writer's own bytes.
        this.inbound.push(Uint8Array.from(chunk.subarray(at, at + this.chunkBytes)))
      }
      this.inboundBytes += chunk.length
    }
    this.schedule()
    this.isPeerWaiting = this.inboundBytes > this.bufferBytes
    return !this.isPeerWaiting
  }

  private peerEnded(): void {
    this.reading = "Ending"
    this.schedule()
  }

  private schedule(): void {
    if (this.scheduled) return
    this.scheduled = true
    queueMicrotask(() => {
      this.scheduled = false
      this.deliver()
    })
  }

  private deliver(): void {
    while (this.handler !== undefined && this.flowing && !this.isClosed) {
      const chunk = this.inbound.shift()
      if (chunk === undefined) break
      this.inboundBytes -= chunk.length
      this.handler.onData(chunk)
    }
    if (this.isPeerWaiting && this.inboundBytes <= this.bufferBytes) {
      this.isPeerWaiting = false
      this.peer.handler?.onDrain()
    }
    if (this.reading !== "Ending" || this.inbound.length > 0 || this.handler === undefined || this.isClosed) return
    this.reading = "Ended"
    this.handler.onEnd()
    this.closeIfOver()
  }

  private closeIfOver(): void {
    if (this.hasEnded && this.reading === "Ended") this.close(undefined)
  }

  private close(cause: unknown): void {
    if (this.isClosed) return
    this.isClosed = true
    this.inbound = []
    queueMicrotask(() => this.handler?.onClose(cause))
  }
}

/**
 * Makes the two ends of a link. Bytes are delivered in a later microtask, in order.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makePair = (options: LinkOptions = {}): readonly [Transport, Transport] => {
  const left = new End(options)
  const right = new End(options)
  left.peer = right
  right.peer = left
  return [left, right]
}
