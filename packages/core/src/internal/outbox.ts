/**
 * What waits to be sent while there is no connection, or while the one there is takes nothing.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as MutableList from "effect/MutableList"
import type { Connection } from "../Connection.ts"
import { isPrepared, type Message, type Prepared } from "../Message.ts"
import * as Utf8 from "../protocol/Utf8.ts"
import type { Overflow } from "../SendQueue.ts"
import { QueueFull, SendError } from "../WebSocketError.ts"
import { notOpen, Turns } from "./turns.ts"

export interface OutboxOptions {
  readonly maxQueuedMessages: number
  readonly maxQueuedBytes: number
  readonly overflow: Exclude<Overflow, object>
}

interface Entry {
  readonly message: Message | Prepared
  readonly size: number
}

/**
 * How many bytes a connection is given beyond what its socket takes. What was handed over is lost if the socket dies, so it
 * is no more than one write.
 */
export const window = 64 * 1024

/**
 * A bounded buffer that outlives connections. While one is open, messages pass through to it without delay as long as its
 * socket takes them.
 */
export class Outbox {
  private readonly options: OutboxOptions
  private readonly queue = MutableList.make<Entry>()
  private readonly senders = new Turns()
  private readonly filled = Latch.makeUnsafe(false)
  private bytes = 0
  private isSealed = false
  private connection: Connection | undefined

  constructor(options: OutboxOptions) {
    this.options = options
  }

  send(message: Message | Prepared): Effect.Effect<void, SendError> {
    return Effect.suspend(() => {
      if (this.isSealed) return Effect.fail(notOpen)
      const entry = { message, size: sizeOf(message) }
      if (this.senders.isEmpty && this.fits(entry)) return this.accept(entry)
      switch (this.options.overflow) {
        case "suspend":
          return this.senders.take(() => this.fits(entry), () => this.append(entry), this)
        case "fail":
          return Effect.fail(this.full())
        case "drop-newest":
          return Effect.void
        case "drop-oldest":
          // Nothing is dropped in vain.
          if (entry.size > this.options.maxQueuedBytes) return Effect.void
          while (!this.fits(entry)) this.take()
          return this.accept(entry)
      }
    })
  }

  sendAll(messages: Iterable<Message | Prepared>): Effect.Effect<void, SendError> {
    return Effect.suspend(() => {
      const iterator = messages[Symbol.iterator]()
      const next = (): Effect.Effect<void, SendError> => {
        const result = iterator.next()
        return result.done ? Effect.void : Effect.flatMap(this.send(result.value), next)
      }
      return next()
    })
  }

  /** What waits here, and what was handed over and waits there. */
  get queuedMessages(): Effect.Effect<number> {
    return Effect.suspend(() =>
      Effect.map(this.connection?.queuedMessages ?? Effect.succeed(0), (queued) => this.queue.length + queued)
    )
  }
  get queuedBytes(): Effect.Effect<number> {
    return Effect.suspend(() =>
      Effect.map(this.connection?.queuedBytes ?? Effect.succeed(0), (queued) => this.bytes + queued)
    )
  }

  /** Hands over what waits and what comes, as far as the connection takes it, until it is interrupted. */
  feed(connection: Connection): Effect.Effect<never> {
    const step = Effect.flatMap(Effect.suspend(() => this.handOver(connection)), (outcome) => {
      switch (outcome) {
        case "Empty":
          return this.filled.await
        case "Full":
          return Effect.catch(Effect.andThen(connection.drained, this.sendOldest(connection)), () => Effect.never)
        case "NotOpen":
          return Effect.never
      }
    })
    return Effect.sync(() => {
      this.connection = connection
    }).pipe(
      Effect.andThen(Effect.forever(step)),
      Effect.ensuring(Effect.sync(() => {
        this.connection = undefined
      }))
    )
  }

  /** Accepts nothing more; suspended senders fail. */
  seal(): void {
    this.isSealed = true
    this.senders.end()
  }

  /** Takes all that waits. */
  takeAll(): ReadonlyArray<Message | Prepared> {
    this.bytes = 0
    return MutableList.takeAll(this.queue).map(({ message }) => message)
  }

  /** Goes on after a sender gave its turn up: those behind may fit where it did not. */
  onGivenUp(): void {
    this.senders.serve()
  }

  private handOver(connection: Connection): Effect.Effect<"Empty" | "Full" | "NotOpen"> {
    return Effect.flatMap(connection.queuedBytes, (queued) => {
      let room = window - queued
      // What `sendOldest` took left room here, too.
      this.senders.serve()
      if (this.queue.length > 0 && room <= 0) return Effect.succeed("Full")
      while (this.queue.length > 0) {
        // The connection may have written in the meantime.
        if (room <= 0) return this.handOver(connection)
        const entry = this.take()
        const outcome = connection.sendUnsafe(entry.message, "suspend")
        if (outcome !== "Accepted") {
          this.untake(entry)
          return Effect.succeed(outcome === "NotOpen" ? "NotOpen" : "Full")
        }
        room -= entry.size
        this.senders.serve()
      }
      this.filled.closeUnsafe()
      return Effect.succeed("Empty")
    })
  }

  // It may be larger than all that the connection queues, and then has to wait for its turn there.
  private sendOldest(connection: Connection): Effect.Effect<void, SendError> {
    // Once it is taken, it is sent or put back, and nothing comes in between.
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        if (this.queue.length === 0) return Effect.void
        const entry = this.take()
        return Effect.onError(restore(connection.send(entry.message)), () => Effect.sync(() => this.untake(entry)))
      })
    )
  }

  private accept(entry: Entry): Effect.Effect<void> {
    this.append(entry)
    return this.connection === undefined ? Effect.void : Effect.asVoid(this.handOver(this.connection))
  }

  private append(entry: Entry): void {
    MutableList.append(this.queue, entry)
    this.bytes += entry.size
    this.filled.openUnsafe()
  }

  private take(): Entry {
    const entry = MutableList.take(this.queue) as Entry
    this.bytes -= entry.size
    return entry
  }

  private untake(entry: Entry): void {
    MutableList.prepend(this.queue, entry)
    this.bytes += entry.size
  }

  private fits({ size }: Entry): boolean {
    const { maxQueuedBytes, maxQueuedMessages } = this.options
    return this.queue.length === 0 || (this.queue.length < maxQueuedMessages && this.bytes + size <= maxQueuedBytes)
  }

  private full(): SendError {
    return new SendError({ reason: new QueueFull({ queuedMessages: this.queue.length, queuedBytes: this.bytes }) })
  }
}

const sizeOf = (payload: Message | Prepared): number => {
  const message = isPrepared(payload) ? payload.message : payload
  return typeof message === "string" ? Utf8.portable.byteLength(message) : message.length
}
