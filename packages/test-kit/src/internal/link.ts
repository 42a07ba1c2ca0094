/**
 * What happens between the two ends of a link.
 *
 * @since 0.1.0
 */
import { type Address, allCapabilities, type Transport, type TransportHandler } from "@effect-ws/core/Transport"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Random from "effect/Random"
import type { Behaviour, Direction, TestLink } from "../TestLink.ts"
import { concat, copy, FrameScanner } from "./frameScanner.ts"

export interface LinkContext {
  readonly clock: Clock.Clock
  readonly random: Random.Random
  readonly runFork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** How many times something was written or arrived. */
  traffic: number
}

// What travels. A head is that of an HTTP message, which the network reads; a reset overtakes everything.
type Parcel =
  | { readonly _tag: "Bytes"; readonly due: number; bytes: Uint8Array }
  | { readonly _tag: "Head"; readonly due: number; readonly arrive: () => void }
  | { readonly _tag: "End"; readonly due: number }
  | { readonly _tag: "Reset"; readonly due: number }

// What a packet holds: with a bandwidth, a long write arrives bit by bit.
const segmentBytes = 1460

/** One direction: from a writer, through time and chance, to a reader. */
class Lane {
  readonly reader: End
  behaviour: Behaviour
  inTransit = 0

  private readonly context: LinkContext
  private readonly link: Link
  private parcels: Array<Parcel> = []
  private taken = 0
  private readonly scanner = new FrameScanner()
  // Once a kind of frame was to be swallowed: whether this one is, and how much of its header went through before that.
  private isFiltering = false
  private isSwallowing = false
  private passed = 0
  private isWriterWaiting = false
  private lastDue = 0
  private busyUntil = 0
  private untilReset: number
  private scheduled: "No" | "Microtask" | Fiber.Fiber<void> = "No"

  constructor(link: Link, context: LinkContext, behaviour: Behaviour, reader: End) {
    this.link = link
    this.context = context
    this.behaviour = behaviour
    this.reader = reader
    this.untilReset = behaviour.resetAfter
  }

  set(behaviour: Partial<Behaviour>): void {
    this.behaviour = { ...this.behaviour, ...behaviour }
    if (behaviour.resetAfter !== undefined) this.untilReset = behaviour.resetAfter
    this.schedule()
  }

  write(chunks: ReadonlyArray<Uint8Array>): boolean {
    if (this.reader.isClosed && this.behaviour.flow !== "cut") return true
    if (this.isWriterWaiting) throw new Error("a transport is written to before it has drained")
    this.context.traffic++
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
    const isTaken = this.inTransit + length <= this.behaviour.bufferBytes
    for (const chunk of chunks) {
      // What was not taken is read when it is delivered: whoever overwrites it too early has garbled it.
      const bytes = isTaken ? copy(chunk) : chunk
      const step = this.behaviour.bytesPerSecond === Infinity ? bytes.length : segmentBytes
      for (let at = 0; at < bytes.length; at += step) {
        const segment = bytes.subarray(at, at + step)
        this.parcels.push({ _tag: "Bytes", due: this.dueOf(segment.length), bytes: segment })
      }
    }
    this.inTransit += length
    this.isWriterWaiting = !isTaken
    this.schedule()
    return isTaken
  }

  head(arrive: () => void): void {
    this.parcels.push({ _tag: "Head", due: this.dueOf(0), arrive })
    this.schedule()
  }

  end(): void {
    this.parcels.push({ _tag: "End", due: this.dueOf(0) })
    this.schedule()
  }

  /** The writer is gone: what it wrote is lost, and the reader learns of it. */
  reset(): void {
    this.clear()
    this.lastDue = 0
    this.parcels.push({ _tag: "Reset", due: this.dueOf(0) })
    this.schedule()
  }

  /** Nobody reads any more. */
  clear(): void {
    this.parcels = []
    this.taken = 0
    this.inTransit = 0
    this.isWriterWaiting = false
    if (typeof this.scheduled === "object") {
      this.scheduled.interruptUnsafe()
      this.scheduled = "No"
    }
  }

  schedule(): void {
    if (this.scheduled !== "No") return
    this.scheduled = "Microtask"
    queueMicrotask(() => {
      this.scheduled = "No"
      this.deliver()
    })
  }

  private dueOf(length: number): number {
    const { bytesPerSecond, jitter, latency } = this.behaviour
    const now = this.context.clock.currentTimeMillisUnsafe()
    this.busyUntil = Math.max(now, this.busyUntil) + (length / bytesPerSecond) * 1000
    const longest = Duration.toMillis(jitter)
    // Without a chance, none is drawn: a link that behaves does not change what the others get.
    const delay = Duration.toMillis(latency) + (longest > 0 ? longest * this.chance() : 0)
    // Whole milliseconds, as timers keep them: a fraction lost to rounding would wake the reader too early.
    this.lastDue = Math.max(this.lastDue, Math.ceil(this.busyUntil + delay))
    return this.lastDue
  }

  private deliver(): void {
    for (let parcel = this.next(); parcel !== undefined; parcel = this.next()) {
      const now = this.context.clock.currentTimeMillisUnsafe()
      if (parcel.due > now) {
        this.wakeAfter(parcel.due - now)
        break
      }
      switch (parcel._tag) {
        case "Reset":
          return this.reader.close(new Error("connection reset"))
        case "Head":
          this.taken++
          parcel.arrive()
          break
        case "End":
          this.taken++
          this.reader.ended()
          break
        case "Bytes":
          this.deliverChunk(parcel)
      }
    }
    if (!this.isWriterWaiting || this.inTransit > this.behaviour.bufferBytes) return
    // A transport whose buffer holds nothing has drained when everything is delivered.
    this.isWriterWaiting = false
    this.reader.peer.drained()
  }

  // The parcel that comes next, if it may.
  private next(): Parcel | undefined {
    const parcel = this.parcels[this.taken]
    if (parcel === undefined) {
      this.parcels = []
      this.taken = 0
      return undefined
    }
    const { flow } = this.behaviour
    if (flow === "cut" || this.reader.isClosed) return undefined
    if (parcel._tag === "Reset" || parcel._tag === "Head") return parcel
    // A reader that has paused is still told of the end, once everything before it was delivered.
    const isReading = parcel._tag === "End" ? this.reader.isStarted : this.reader.isReading
    return flow === "open" && isReading ? parcel : undefined
  }

  private deliverChunk(parcel: Parcel & { readonly _tag: "Bytes" }): void {
    this.context.traffic++
    const length = Math.min(this.chunkBytes(), this.untilReset, parcel.bytes.length)
    const chunk = copy(parcel.bytes.subarray(0, length))
    if (length === parcel.bytes.length) this.taken++
    else parcel.bytes = parcel.bytes.subarray(length)
    this.inTransit -= length
    this.untilReset -= length
    for (const bytes of this.tamper(this.swallow(chunk))) {
      this.reader.received(bytes)
      // Lent, and taken back: whoever keeps it has garbled it.
      bytes.fill(0xdd)
    }
    if (this.untilReset === 0) this.link.break()
  }

  private chunkBytes(): number {
    const { chunkBytes } = this.behaviour
    if (typeof chunkBytes === "number") return chunkBytes
    return chunkBytes.min + Math.floor(this.chance() * (chunkBytes.max - chunkBytes.min + 1))
  }

  private swallow(chunk: Uint8Array): Uint8Array {
    const { swallow } = this.behaviour
    // Scanned from the first byte on, since frames can only be told apart from the start.
    const begun = this.scanner.headerBytes
    const segments = this.scanner.push(chunk)
    if (swallow.length > 0 && !this.isFiltering) {
      this.isFiltering = true
      this.passed = begun
    }
    if (!this.isFiltering) return chunk
    const kept: Array<Uint8Array> = []
    for (const { head, offset, raw } of segments) {
      // Decided with its header, so that a frame vanishes whole or not at all.
      if (offset === undefined) this.isSwallowing = this.passed === 0 && swallow.includes(head.opcode)
      if (!this.isSwallowing) kept.push(offset === undefined ? raw.subarray(this.passed) : raw)
      this.passed = 0
    }
    return concat(kept)
  }

  private tamper(chunk: Uint8Array): ReadonlyArray<Uint8Array> {
    const { corrupt, duplicate, truncate } = this.behaviour
    if (chunk.length === 0) return []
    if (this.happens(corrupt)) chunk[Math.floor(this.chance() * chunk.length)]! ^= 1 << Math.floor(this.chance() * 8)
    const bytes = this.happens(truncate) ? chunk.subarray(0, Math.floor(this.chance() * chunk.length)) : chunk
    return this.happens(duplicate) ? [copy(bytes), bytes] : [bytes]
  }

  private happens(probability: number): boolean {
    return probability > 0 && this.chance() < probability
  }

  private chance(): number {
    return this.context.random.nextDoubleUnsafe()
  }

  private wakeAfter(millis: number): void {
    if (this.scheduled !== "No") return
    // Rounded up, or it could be a fraction that is lost when it is added to the time, and no sleep at all.
    this.scheduled = this.context.runFork(Effect.andThen(
      Effect.sleep(Math.ceil(millis)),
      Effect.sync(() => {
        this.scheduled = "No"
        this.deliver()
      })
    ))
  }
}

/** One end of a link. */
export class End implements Transport {
  readonly peerAddress: Address | undefined
  readonly localAddress: Address | undefined
  readonly capabilities = allCapabilities
  peer!: End
  outgoing!: Lane
  incoming!: Lane
  isClosed = false
  cause: unknown

  private handler: TransportHandler | undefined
  private isFlowing = true
  private hasEnded = false
  private hasPeerEnded = false
  private readonly observers = new Set<() => void>()

  constructor(localAddress: Address | undefined, peerAddress: Address | undefined) {
    this.localAddress = localAddress
    this.peerAddress = peerAddress
  }

  start(handler: TransportHandler): void {
    this.handler = handler
    if (this.isClosed) queueMicrotask(() => handler.onClose(this.cause))
    else this.incoming.schedule()
  }

  pause(): void {
    this.isFlowing = false
  }

  resume(): void {
    this.isFlowing = true
    this.incoming.schedule()
  }

  write(chunks: ReadonlyArray<Uint8Array>): boolean {
    return this.hasEnded || this.isClosed || this.outgoing.write(chunks)
  }

  end(): void {
    if (this.hasEnded || this.isClosed) return
    this.hasEnded = true
    this.outgoing.end()
    this.closeIfOver()
  }

  destroy(): void {
    if (this.isClosed) return
    this.close(undefined)
    this.outgoing.reset()
  }

  get isStarted(): boolean {
    return this.handler !== undefined
  }

  get isReading(): boolean {
    return this.isStarted && this.isFlowing
  }

  /** Calls back when this end is closed; returns how to forget that. */
  onClosed(observer: () => void): () => void {
    if (this.isClosed) observer()
    else this.observers.add(observer)
    return () => this.observers.delete(observer)
  }

  // Uses the memory that it is offered, as transports do that choose where they read to.
  received(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      const target = this.handler?.target?.()
      const part = chunk.subarray(at, target && at + target.length)
      target?.set(part)
      this.handler?.onData(target?.subarray(0, part.length) ?? part)
      at += part.length
    }
  }

  ended(): void {
    this.hasPeerEnded = true
    this.handler?.onEnd()
    this.closeIfOver()
  }

  drained(): void {
    if (!this.isClosed) this.handler?.onDrain()
  }

  close(cause: unknown): void {
    if (this.isClosed) return
    this.isClosed = true
    this.cause = cause
    this.incoming.clear()
    queueMicrotask(() => this.handler?.onClose(cause))
    for (const observer of this.observers) observer()
    this.observers.clear()
  }

  private closeIfOver(): void {
    if (this.hasEnded && this.hasPeerEnded) this.close(undefined)
  }
}

/** Two ends, and a lane each way between them. */
export class Link {
  readonly client: End
  readonly server: End
  readonly handle: TestLink

  constructor(
    context: LinkContext,
    behaviour: Readonly<Record<Direction, Behaviour>>,
    addresses: { readonly client: Address | undefined; readonly server: Address | undefined }
  ) {
    const client = new End(addresses.client, addresses.server)
    const server = new End(addresses.server, addresses.client)
    const toServer = new Lane(this, context, behaviour.toServer, server)
    const toClient = new Lane(this, context, behaviour.toClient, client)
    client.peer = server
    server.peer = client
    client.outgoing = server.incoming = toServer
    server.outgoing = client.incoming = toClient
    this.client = client
    this.server = server
    const lanes = { toServer, toClient }
    this.handle = {
      client,
      server,
      set: (behaviour, direction) =>
        Effect.sync(() => {
          if (direction !== "toClient") toServer.set(behaviour)
          if (direction !== "toServer") toClient.set(behaviour)
        }),
      inTransit: (direction) => Effect.sync(() => lanes[direction].inTransit),
      reset: Effect.sync(() => this.break()),
      isOver: Effect.sync(() => client.isClosed && server.isClosed)
    }
  }

  /** Closes both ends at once. */
  break(): void {
    for (const end of [this.client, this.server]) {
      end.close(new Error("connection reset"))
      end.outgoing.clear()
    }
  }
}
