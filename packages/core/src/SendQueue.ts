/**
 * The bounded outbound queue of a connection: what may wait, what happens when no more may, and who is told.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as MutableList from "effect/MutableList"
import type { MessageDeflater } from "./Compression.ts"
import { isPrepared, type Message, type Prepared } from "./Message.ts"
import { Opcode, rsv1 } from "./protocol/Frame.ts"
import { FrameEncoder } from "./protocol/FrameEncoder.ts"
import type { Utf8Codec } from "./protocol/Utf8.ts"
import type { Transport } from "./Transport.ts"
import { ConnectionNotOpen, QueueFull, SendError } from "./WebSocketError.ts"

/**
 * What happens to a message that the queue has no room for.
 *
 * **Details**
 *
 * - `"suspend"`: the sender waits for room.
 * - `"fail"`: the send fails with `QueueFull`.
 * - `"drop-newest"`: the message is dropped, and the send succeeds.
 * - `"drop-oldest"`: the messages that have waited longest are dropped to make room, and the send succeeds.
 *   A message so large that this would not be enough is dropped itself.
 * - `{ close }`: the peer is a slow consumer; the connection is closed with 1008 or 1013 without sending what waits.
 *
 * @category models
 * @since 0.1.0
 */
export type Overflow = "suspend" | "fail" | "drop-newest" | "drop-oldest" | { readonly close: 1008 | 1013 }

/**
 * What a queue is made of.
 *
 * **Details**
 *
 * With a `deflater`, messages are compressed when they are encoded: what waits is accounted for as it is.
 * `onOverflowClose` is called when the policy `{ close }` applies; `onFlushed` once the Close frame and all before it have
 * left.
 *
 * @category models
 * @since 0.1.0
 */
export interface SendQueueOptions {
  readonly transport: Transport
  readonly utf8: Utf8Codec
  readonly maskKey: (() => number) | undefined
  readonly deflater?: MessageDeflater | undefined
  readonly maxQueuedMessages: number
  readonly maxQueuedBytes: number
  readonly overflow: Overflow
  readonly onOverflowClose: (code: number) => void
  readonly onFlushed: () => void
}

// A frame to send. Droppable are whole messages and, among the control frames, the answer to a Ping.
interface Outgoing {
  readonly opcode: Opcode
  readonly payload: Message | Prepared
  readonly length: number
  readonly fin: boolean
  readonly size: number
  readonly droppable: boolean
}

interface Sender {
  readonly fits: () => boolean
  readonly accept: () => void
  readonly resume: (effect: Effect.Effect<void, SendError>) => void
}

const flushThreshold = 64 * 1024
// Control frames wait beside the queue, so they have a bound of their own.
const maxWaitingControls = 64

const notOpen = new SendError({ reason: new ConnectionNotOpen({}) })

/**
 * Encodes accepted messages into one buffer that is written once per turn of the event loop, and holds frames back while
 * the transport is busy.
 *
 * **Details**
 *
 * There is no writer fiber: the bound is accounting, and a suspended sender is resumed when the transport drains. While
 * the transport takes bytes, a message is encoded straight into the outgoing buffer. While it is busy, frames wait in
 * `queue` and control frames overtake them in `controls`. Messages accepted during a streamed message wait behind it in
 * `held`.
 *
 * @category models
 * @since 0.1.0
 */
export class SendQueue {
  private readonly options: SendQueueOptions
  private readonly encoder: FrameEncoder
  private phase: "Accepting" | "Sealed" | "Ended" = "Accepting"
  private busy = false
  private flushing = false
  private scheduled = false
  private streaming = false

  private readonly queue = MutableList.make<Outgoing>()
  private readonly held = MutableList.make<Outgoing>()
  private heldBytes = 0
  private controls: Array<Outgoing> = []

  // All that was accepted and not yet handed over; of it, what is in the encoder, and what the busy transport still reads.
  private messages = 0
  private bytes = 0
  private encoded = { messages: 0, bytes: 0 }
  private inFlight = { messages: 0, bytes: 0 }

  private readonly senders = new Set<Sender>()
  private readonly fragmentSenders = new Set<Sender>()
  private readonly controlSenders = new Set<Sender>()
  private readonly sealWaiters = new Set<Sender>()
  private readonly drainWaiters = new Set<(effect: Effect.Effect<void, SendError>) => void>()
  // Whether the end of the connection prevented something accepted from being sent.
  private hasLost = false

  constructor(options: SendQueueOptions) {
    this.options = options
    this.encoder = new FrameEncoder(options)
  }

  /** Messages accepted and not yet handed to the transport. */
  get queuedMessages(): number {
    return this.messages
  }

  /** The bytes of their frames. */
  get queuedBytes(): number {
    return this.bytes
  }

  /** Tells whether the Close frame and all before it have left. */
  get isFlushed(): boolean {
    return this.phase === "Sealed" && this.bytes === 0
  }

  /** Accepts a message, or does what the overflow policy says. */
  send(message: Message | Prepared): Effect.Effect<void, SendError> {
    return Effect.suspend(() => {
      const { overflow } = this.options
      switch (this.sendUnsafe(message, overflow)) {
        case "Accepted":
        case "Dropped":
          return Effect.void
        case "NotOpen":
          return Effect.fail(notOpen)
        case "Full":
          return overflow === "suspend" ? this.suspend(message) : Effect.fail(this.full())
      }
    })
  }

  /** Accepts a message without an effect, or tells why not: "Full" under the policies "suspend" and "fail". */
  sendUnsafe(message: Message | Prepared, overflow: Overflow): "Accepted" | "Dropped" | "Full" | "NotOpen" {
    if (this.phase !== "Accepting") return "NotOpen"
    const outgoing = this.outgoing(message)
    if (this.senders.size > 0 || !this.hasRoom(outgoing.size)) {
      if (overflow === "suspend" || overflow === "fail") return "Full"
      if (overflow === "drop-newest") return "Dropped"
      if (overflow !== "drop-oldest") {
        this.options.onOverflowClose(overflow.close)
        return "NotOpen"
      }
      // What is in flight cannot be dropped; if it leaves no room, nothing else is dropped in vain.
      const { bytes, messages } = this.inFlight
      if (messages > 0 && bytes + outgoing.size > this.options.maxQueuedBytes) return "Dropped"
      this.dropOldest(outgoing.size)
      if (!this.fits(outgoing.size)) return "Dropped"
    }
    this.accept(outgoing, this.streaming ? this.held : this.queue)
    return "Accepted"
  }

  /** Tells whether a streamed message has begun and not ended. */
  get isStreaming(): boolean {
    return this.streaming
  }

  /** Appends a frame of the streamed message, suspending while there is no room; the one with `fin` ends the message. */
  sendFragment(opcode: Opcode, payload: Uint8Array, fin: boolean): Effect.Effect<void, SendError> {
    const size = this.encoder.frameLength(payload.length)
    const outgoing: Outgoing = { opcode, payload, length: payload.length, fin, size, droppable: false }
    return this.enter(
      this.fragmentSenders,
      () => {
        // What is held waits for this message to end, so it must not be in the way of its frames.
        const others = this.bytes - this.heldBytes
        return others === 0 || others + size <= this.options.maxQueuedBytes
      },
      () => {
        this.streaming = !fin
        this.accept(outgoing, this.queue)
        if (fin) this.releaseHeld()
      }
    )
  }

  /** Fails once nothing more is accepted. */
  get awaitSealed(): Effect.Effect<void, SendError> {
    return this.enter(this.sealWaiters, () => false, () => {})
  }

  /** Sends a control frame ahead of what waits; suspends while too many control frames wait. */
  sendControl(opcode: Opcode, payload: Uint8Array): Effect.Effect<void, SendError> {
    return this.enter(
      this.controlSenders,
      () => this.controls.length < maxWaitingControls,
      () => this.control(this.controlFrame(opcode, payload))
    )
  }

  /** Answers a Ping; while the transport is busy, only the latest answer waits (RFC 6455, section 5.5.3). */
  pong(payload: Uint8Array): void {
    if (this.phase !== "Accepting") return
    const waiting = this.controls.findIndex((frame) => frame.droppable)
    if (waiting >= 0) this.bytes -= this.controls.splice(waiting, 1)[0]!.size
    this.control(this.controlFrame(Opcode.pong, payload, true))
  }

  /** Sends a Ping of the heartbeat, unless the transport is so busy that too many control frames wait already. */
  ping(payload: Uint8Array): void {
    if (this.phase !== "Accepting" || this.controls.length >= maxWaitingControls) return
    this.control(this.controlFrame(Opcode.ping, payload))
  }

  /**
   * Accepts nothing more and sends a Close frame: behind all that was accepted, or, with `discard`, instead of what still
   * waits. Suspended senders fail.
   */
  seal(payload: Uint8Array, discard: boolean): void {
    if (this.phase !== "Accepting") return
    this.phase = "Sealed"
    // A data frame cannot follow an unfinished message (section 5.4), so what waits behind one is never sent.
    this.discard(this.held)
    if (discard) this.discard(this.queue)
    this.accept(this.controlFrame(Opcode.close, payload), this.queue)
    this.failSenders()
  }

  /** Forgets everything: the transport is gone. */
  end(): void {
    this.phase = "Ended"
    this.hasLost ||= this.messages > 0
    MutableList.clear(this.queue)
    MutableList.clear(this.held)
    this.controls = []
    this.messages = this.bytes = 0
    this.encoder.take()
    this.encoder.release(false)
    this.failSenders()
    this.settleDrained()
  }

  /** Goes on after the transport took what it was given. */
  drained(): void {
    this.busy = false
    this.messages -= this.inFlight.messages
    this.bytes -= this.inFlight.bytes
    this.inFlight = { messages: 0, bytes: 0 }
    this.flush()
  }

  /** Waits until nothing is queued; fails if the connection ended with something unsent. */
  get awaitDrained(): Effect.Effect<void, SendError> {
    return Effect.callback((resume) => {
      if (this.bytes === 0) return resume(this.drainedResult)
      this.drainWaiters.add(resume)
      return Effect.sync(() => this.drainWaiters.delete(resume))
    })
  }

  /** Leaves the flush of what is sent from now on to the caller, who calls `flush` before its turn ends. */
  deferFlush(): void {
    this.scheduled = true
  }

  /** Writes as much as the transport takes, resuming senders as room appears. */
  flush(): void {
    this.scheduled = false
    if (this.flushing || this.busy || this.phase === "Ended") return
    this.flushing = true
    do {
      this.write()
    } while (!this.busy && this.resumeSenders())
    this.flushing = false
    if (this.busy || this.bytes > 0) return
    this.settleDrained()
    if (this.isFlushed) this.options.onFlushed()
  }

  private write(): void {
    while (!this.busy && this.phase !== "Ended") {
      for (const frame of this.controls) this.encode(frame)
      if (this.controls.length > 0) this.controls = []
      while (this.queue.length > 0 && this.encoder.bytes < flushThreshold) {
        this.encode(MutableList.take(this.queue) as Outgoing)
      }
      if (this.encoder.bytes === 0) return
      const { encoded } = this
      this.encoded = { messages: 0, bytes: 0 }
      const taken = this.options.transport.write(this.encoder.take())
      this.encoder.release(taken)
      if (taken) {
        this.messages -= encoded.messages
        this.bytes -= encoded.bytes
      } else {
        this.busy = true
        this.inFlight = encoded
      }
    }
  }

  // Flushes once per turn: at the end of the read that caused the sends, or in a microtask.
  private schedule(): void {
    if (this.encoder.bytes >= flushThreshold) return this.flush()
    if (this.scheduled || this.flushing || this.busy) return
    this.scheduled = true
    queueMicrotask(() => this.flush())
  }

  private outgoing(payload: Message | Prepared): Outgoing {
    const message = isPrepared(payload) ? payload.message : payload
    const text = typeof message === "string"
    const length = text ? this.options.utf8.byteLength(message) : message.length
    const size = this.encoder.frameLength(length)
    return { opcode: text ? Opcode.text : Opcode.binary, payload, length, fin: true, size, droppable: true }
  }

  private controlFrame(opcode: Opcode, payload: Uint8Array, droppable = false): Outgoing {
    const { length } = payload
    return { opcode, payload, length, fin: true, size: this.encoder.frameLength(length), droppable }
  }

  private accept(outgoing: Outgoing, list: MutableList.MutableList<Outgoing>): void {
    this.messages += messagesIn(outgoing)
    this.bytes += outgoing.size
    if (list === this.held) this.heldBytes += outgoing.size
    if (!this.busy && this.queue.length === 0 && list === this.queue) {
      this.encode(outgoing)
    } else {
      MutableList.append(list, outgoing)
    }
    this.schedule()
  }

  private control(frame: Outgoing): void {
    this.bytes += frame.size
    if (this.busy) this.controls.push(frame)
    else this.encode(frame)
    this.schedule()
  }

  private encode(outgoing: Outgoing): void {
    const { fin, length, opcode, payload } = outgoing
    this.encoded.messages += messagesIn(outgoing)
    this.encoded.bytes += outgoing.size
    const { deflater } = this.options
    if (deflater !== undefined && opcode < Opcode.close) {
      const deflated = deflater.deflate(opcode, payload, length, fin)
      if (deflated !== undefined) {
        return this.encoder.frame(opcode, deflated, fin, opcode === Opcode.continuation ? 0 : rsv1)
      }
    }
    if (typeof payload === "string") {
      this.encoder.text(payload, length)
    } else if (!isPrepared(payload)) {
      this.encoder.frame(opcode, payload, fin)
    } else if (this.options.maskKey === undefined) {
      this.encoder.encoded(payload.frame)
    } else if (typeof payload.message === "string") {
      this.encoder.text(payload.message, length)
    } else {
      this.encoder.frame(opcode, payload.message, fin)
    }
  }

  private hasRoom(size: number): boolean {
    if (this.fits(size)) return true
    // The transport may take at once what is only waiting for the end of the turn.
    this.flush()
    return this.phase === "Accepting" && this.fits(size)
  }

  private fits(size: number): boolean {
    return this.messages === 0 ||
      (this.messages < this.options.maxQueuedMessages && this.bytes + size <= this.options.maxQueuedBytes)
  }

  private suspend(message: Message | Prepared): Effect.Effect<void, SendError> {
    const outgoing = this.outgoing(message)
    return this.enter(
      this.senders,
      () => this.fits(outgoing.size),
      () => this.accept(outgoing, this.streaming ? this.held : this.queue)
    )
  }

  // Takes the caller's turn now, or suspends it until those before it had theirs and there is room. Interruption gives the
  // turn up, and nothing is sent.
  private enter(senders: Set<Sender>, fits: () => boolean, accept: () => void): Effect.Effect<void, SendError> {
    return Effect.callback((resume) => {
      if (this.phase !== "Accepting") return resume(Effect.fail(notOpen))
      if (senders.size === 0 && fits()) {
        accept()
        return resume(Effect.void)
      }
      const sender: Sender = { fits, accept, resume }
      senders.add(sender)
      return Effect.sync(() => {
        // Those behind may fit where this one did not.
        if (senders.delete(sender) && !this.flushing) this.resumeSenders()
      })
    })
  }

  private resumeSenders(): boolean {
    let resumed = false
    for (const senders of [this.fragmentSenders, this.controlSenders, this.senders]) {
      for (const sender of senders) {
        if (this.phase !== "Accepting" || !sender.fits()) break
        senders.delete(sender)
        sender.accept()
        sender.resume(Effect.void)
        resumed = true
      }
    }
    return resumed
  }

  private releaseHeld(): void {
    MutableList.appendAll(this.queue, MutableList.takeAll(this.held))
    this.heldBytes = 0
    this.schedule()
  }

  private dropOldest(size: number): void {
    for (const list of [this.queue, this.held]) {
      const kept: Array<Outgoing> = []
      while (!this.fits(size) && list.length > 0) {
        const oldest = MutableList.take(list) as Outgoing
        if (oldest.droppable) this.forget(oldest, list)
        else kept.push(oldest)
      }
      MutableList.prependAll(list, kept)
    }
  }

  private discard(list: MutableList.MutableList<Outgoing>): void {
    for (const outgoing of MutableList.takeAll(list)) {
      this.hasLost = true
      this.forget(outgoing, list)
    }
  }

  private forget(outgoing: Outgoing, list: MutableList.MutableList<Outgoing>): void {
    this.messages -= messagesIn(outgoing)
    this.bytes -= outgoing.size
    if (list === this.held) this.heldBytes -= outgoing.size
  }

  private failSenders(): void {
    const all = [this.fragmentSenders, this.controlSenders, this.senders, this.sealWaiters]
    const failing = all.flatMap((senders) => [...senders])
    for (const senders of all) senders.clear()
    for (const sender of failing) sender.resume(Effect.fail(notOpen))
  }

  private get drainedResult(): Effect.Effect<void, SendError> {
    return this.hasLost ? Effect.fail(notOpen) : Effect.void
  }

  private settleDrained(): void {
    if (this.drainWaiters.size === 0) return
    const waiters = [...this.drainWaiters]
    this.drainWaiters.clear()
    for (const resume of waiters) resume(this.drainedResult)
  }

  private full(): SendError {
    return new SendError({ reason: new QueueFull({ queuedMessages: this.messages, queuedBytes: this.bytes }) })
  }
}

// A streamed message counts once, with its last frame.
const messagesIn = (outgoing: Outgoing): number => outgoing.fin && outgoing.opcode < Opcode.close ? 1 : 0
