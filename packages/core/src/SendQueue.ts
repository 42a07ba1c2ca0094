/**
 * The bounded outbound queue of a connection: what may wait, what happens when no more may, and who is told.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import type { MessageDeflater } from "./Compression.ts"
import type { ConnectionMetrics } from "./ConnectionMetrics.ts"
import { Backlog } from "./internal/backlog.ts"
import { flushSoon } from "./internal/flushing.ts"
import { frameLength, Outgoing } from "./internal/outgoing.ts"
import { notOpen, Waiting } from "./internal/turns.ts"
import { isPrepared, type Message, type Prepared } from "./Message.ts"
import { Opcode } from "./protocol/Frame.ts"
import { FrameEncoder } from "./protocol/FrameEncoder.ts"
import type { Utf8Codec } from "./protocol/Utf8.ts"
import type { Transport } from "./Transport.ts"
import { QueueFull, SendError } from "./WebSocketError.ts"

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
 * What a queue goes by.
 *
 * @category models
 * @since 0.1.0
 */
export interface SendQueueOptions {
  readonly utf8: Utf8Codec
  readonly maskKey: (() => number) | undefined
  readonly maxQueuedMessages: number
  readonly maxQueuedBytes: number
  readonly overflow: Overflow
  readonly metrics?: ConnectionMetrics | undefined
}

/**
 * Whom a queue belongs to.
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
export interface SendQueueOwner {
  readonly transport: Transport
  readonly deflater: MessageDeflater | undefined
  readonly onOverflowClose: (code: number) => void
  readonly onFlushed: () => void
}

const flushThreshold = 64 * 1024
// Control frames wait beside the queue, so they have a bound of their own.
const maxWaitingControls = 64

// What one call may send before other fibers have their turn, however fast the transport takes it.
const maxPerTurn = 1024

/**
 * Encodes accepted messages into one buffer that is written once per turn of the event loop, and holds frames back while
 * the transport is busy.
 *
 * **Details**
 *
 * There is no writer fiber: the bound is accounting, and a suspended sender is resumed when the transport drains. While
 * the transport takes bytes, a message is encoded straight into the outgoing buffer. While it is busy, frames wait, and
 * control frames overtake the others. Messages accepted during a streamed message wait behind it.
 *
 * @category models
 * @since 0.1.0
 */
export class SendQueue {
  private readonly options: SendQueueOptions
  private readonly owner: SendQueueOwner
  private readonly masked: boolean
  // There only while something is encoded and not yet written.
  private encoder: FrameEncoder | undefined
  // A prepared frame that nothing has followed yet: alone, as most of a broadcast are, it needs no encoder.
  private lone: Uint8Array | undefined
  // Measuring a text is a pass over it; up to this many bytes, room for the worst case is cheaper.
  private readonly maxUnmeasured: number
  private phase: "Accepting" | "Sealed" | "Ended" = "Accepting"
  private flushing = false
  private scheduled = false

  // Made when first used, as all that waits: most connections never have to.
  private backlog: Backlog | undefined
  private waiting: Waiting | undefined
  private drainWaiters: Array<(effect: Effect.Effect<void, SendError>) => void> | undefined

  // All that was accepted and not yet handed over; of it, what is encoded, and what the transport still reads, being busy.
  private messages = 0
  private bytes = 0
  private encodedMessages = 0
  private encodedBytes = 0
  private inFlight: { readonly messages: number; readonly bytes: number } | undefined

  // Whether the end of the connection prevented something accepted from being sent.
  private hasLost = false

  constructor(options: SendQueueOptions, owner: SendQueueOwner) {
    this.options = options
    this.owner = owner
    this.masked = options.maskKey !== undefined
    // What is to be compressed has to be measured.
    this.maxUnmeasured = Math.min(4 * 1024, (owner.deflater?.threshold ?? Infinity) - 1)
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
    return new Send(this, message)
  }

  /** What `send` does when it is run. */
  acceptOrWait(message: Message | Prepared): Effect.Effect<void, SendError> {
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
  }

  /** Accepts messages in order, as `send` does; without an effect for each as long as there is room. */
  sendAll(messages: Iterable<Message | Prepared>): Effect.Effect<void, SendError> {
    return Effect.suspend(() => {
      const { overflow } = this.options
      const take = taker(messages)
      const next = (): Effect.Effect<void, SendError> => {
        for (let turn = 0; turn < maxPerTurn; turn++) {
          const message = take()
          if (message === noMore) return Effect.void
          const outcome = this.sendUnsafe(message, overflow)
          if (outcome === "NotOpen") return Effect.fail(notOpen)
          if (outcome !== "Full") continue
          if (overflow !== "suspend") return Effect.fail(this.full())
          return Effect.flatMap(this.suspend(message), next)
        }
        return Effect.flatMap(Effect.yieldNow, next)
      }
      return next()
    })
  }

  /** Accepts a message without an effect, or tells why not: "Full" under the policies "suspend" and "fail". */
  sendUnsafe(message: Message | Prepared, overflow: Overflow): "Accepted" | "Dropped" | "Full" | "NotOpen" {
    if (!this.isAccepting) return "NotOpen"
    if (typeof message === "string" ? this.sendShortText(message) : this.sendDirect(message)) return "Accepted"
    const outgoing = Outgoing.message(message, this.options.utf8, this.masked)
    if (this.isWaitedFor || !this.hasRoom(outgoing.size)) {
      // Looking for room may have brought the end.
      if (!this.isAccepting) return "NotOpen"
      if (overflow === "suspend" || overflow === "fail") return "Full"
      if (overflow === "drop-newest") return "Dropped"
      if (overflow !== "drop-oldest") {
        this.owner.onOverflowClose(overflow.close)
        return "NotOpen"
      }
      // What is in flight cannot be dropped; if it leaves no room, nothing else is dropped in vain.
      const { messages = 0, bytes = 0 } = this.inFlight ?? {}
      if (messages > 0 && bytes + outgoing.size > this.options.maxQueuedBytes) return "Dropped"
      this.backlog?.dropUntil(() => this.fits(outgoing.size), (dropped) => this.forget(dropped))
      if (!this.fits(outgoing.size)) return "Dropped"
    }
    this.acceptMessage(outgoing)
    return "Accepted"
  }

  /** Tells whether a streamed message has begun and not ended. */
  get isStreaming(): boolean {
    return this.backlog !== undefined && this.backlog.isHolding
  }

  /** Appends a frame of the streamed message, suspending while there is no room; the one with `fin` ends the message. */
  sendFragment(opcode: Opcode, payload: Uint8Array, fin: boolean): Effect.Effect<void, SendError> {
    const outgoing = Outgoing.fragment(opcode, payload, fin, this.masked)
    return this.turns.fragments.take(
      () => {
        // What is held waits for this message to end, so it must not be in the way of its frames.
        const others = this.bytes - (this.backlog?.heldBytes ?? 0)
        return others === 0 || others + outgoing.size <= this.options.maxQueuedBytes
      },
      () => {
        this.frames.beginHolding()
        this.accept(outgoing)
        // There is none left if the transport has ended within the call.
        if (!fin || this.backlog === undefined) return
        this.backlog.endHolding()
        this.schedule()
      },
      this
    )
  }

  /** Fails once nothing more is accepted. */
  get awaitSealed(): Effect.Effect<void, SendError> {
    return this.turns.seal.take(() => false, () => {}, this)
  }

  /** Sends a control frame ahead of what waits; suspends while too many control frames wait. */
  sendControl(opcode: Opcode, payload: Uint8Array): Effect.Effect<void, SendError> {
    return this.turns.controls.take(
      () => this.waitingControls < maxWaitingControls,
      () => this.control(this.controlFrame(opcode, payload)),
      this
    )
  }

  /** Answers a Ping; while the transport is busy, only the latest answer waits (RFC 6455, section 5.5.3). */
  pong(payload: Uint8Array): void {
    if (!this.isAccepting) return
    this.bytes -= this.backlog?.takePong()?.size ?? 0
    this.control(this.controlFrame(Opcode.pong, payload, true))
  }

  /** Sends a Ping of the heartbeat, unless the transport is so busy that too many control frames wait already. */
  ping(payload: Uint8Array): void {
    if (!this.isAccepting || this.waitingControls >= maxWaitingControls) return
    this.control(this.controlFrame(Opcode.ping, payload))
  }

  /**
   * Accepts nothing more and sends a Close frame: behind all that was accepted, or, with `discard`, instead of what still
   * waits. Suspended senders fail.
   */
  seal(payload: Uint8Array, discard: boolean): void {
    if (!this.isAccepting) return
    this.phase = "Sealed"
    // A data frame cannot follow an unfinished message (section 5.4), so what waits behind one is never sent.
    for (const outgoing of this.backlog?.discard(discard) ?? []) {
      this.hasLost = true
      this.forget(outgoing)
    }
    this.accept(this.controlFrame(Opcode.close, payload))
    this.waiting?.end()
  }

  /** Forgets everything: the transport is gone. */
  end(): void {
    this.phase = "Ended"
    this.hasLost ||= this.messages > 0
    this.backlog = this.inFlight = undefined
    this.encoder = this.lone = undefined
    this.messages = this.bytes = 0
    this.waiting?.end()
    this.settleDrained()
  }

  /** Goes on after the transport took what it was given. */
  drained(): void {
    if (this.inFlight === undefined) return
    this.messages -= this.inFlight.messages
    this.bytes -= this.inFlight.bytes
    this.inFlight = undefined
    this.flush()
  }

  /** Waits until nothing is queued; fails if the connection ended with something unsent. */
  get awaitDrained(): Effect.Effect<void, SendError> {
    return Effect.callback((resume) => {
      if (this.bytes === 0) return resume(this.drainedResult)
      ;(this.drainWaiters ??= []).push(resume)
      return Effect.sync(() => {
        this.drainWaiters = this.drainWaiters?.filter((waiter) => waiter !== resume)
      })
    })
  }

  /** Goes on after a sender gave its turn up: those behind may fit where it did not. */
  onGivenUp(): void {
    if (!this.flushing) this.waiting?.serve()
  }

  /** Leaves the flush of what is sent from now on to the caller, who calls `flush` before its turn ends. */
  deferFlush(): void {
    this.scheduled = true
  }

  /** Writes as much as the transport takes, resuming senders as room appears. */
  flush(): void {
    this.scheduled = false
    if (this.flushing || this.isBusy || this.hasEnded) return
    this.flushing = true
    do {
      this.write()
      // Room is room, also while the transport is busy again.
    } while (this.waiting?.serve() && !this.isBusy)
    this.flushing = false
    if (this.isBusy || this.bytes > 0) return
    this.settleDrained()
    if (this.isFlushed) this.owner.onFlushed()
  }

  private write(): void {
    while (!this.isBusy && !this.hasEnded) {
      const { backlog } = this
      if (backlog !== undefined) {
        for (const frame of backlog.takeControls()) this.encode(frame)
        while (!backlog.isEmpty && this.encodedLength < flushThreshold) this.encode(backlog.take())
      }
      const { encodedBytes: bytes, encodedLength: length, encodedMessages: messages, encoder, lone } = this
      if (length === 0) return
      this.encoder = this.lone = undefined
      this.encodedMessages = this.encodedBytes = 0
      const { metrics } = this.options
      if (metrics !== undefined) {
        metrics.sentMessages += messages
        metrics.sentBytes += length
      }
      const taken = this.owner.transport.write(lone === undefined ? encoder!.take() : [lone])
      encoder?.release(taken)
      encoder?.giveBack()
      // The transport may have ended within the call.
      if (this.hasEnded) return
      if (taken) {
        this.messages -= messages
        this.bytes -= bytes
      } else {
        this.inFlight = { messages, bytes }
      }
    }
  }

  // Flushes once per turn: at the end of the read that caused the sends, or in a microtask that all connections share.
  private schedule(): void {
    if (this.encodedLength >= flushThreshold) return this.flush()
    if (this.scheduled || this.flushing || this.isBusy) return
    this.scheduled = true
    flushSoon(this)
  }

  // Whether a message would be encoded at once.
  private get isDirect(): boolean {
    return !this.isBusy && this.isQueueEmpty && !this.isStreaming && !this.isWaitedFor
  }

  private get isBusy(): boolean {
    return this.inFlight !== undefined
  }

  private get isAccepting(): boolean {
    return this.phase === "Accepting"
  }

  private get hasEnded(): boolean {
    return this.phase === "Ended"
  }

  private get isWaitedFor(): boolean {
    return this.waiting !== undefined && !this.waiting.senders.isEmpty
  }

  private get encodedLength(): number {
    return this.lone?.length ?? this.encoder?.bytes ?? 0
  }

  private get encoding(): FrameEncoder {
    const encoder = this.encoder ??= FrameEncoder.borrow(this.options)
    if (this.lone !== undefined) {
      encoder.encoded(this.lone)
      this.lone = undefined
    }
    return encoder
  }

  private get isQueueEmpty(): boolean {
    return this.backlog === undefined || this.backlog.isEmpty
  }

  private get frames(): Backlog {
    return this.backlog ??= new Backlog()
  }

  private get waitingControls(): number {
    return this.backlog === undefined ? 0 : this.backlog.waitingControls
  }

  // There is room for the text however long its encoding is: it is encoded without being measured.
  private sendShortText(text: string): boolean {
    const longest = text.length * 3
    if (!this.isDirect || longest > this.maxUnmeasured || !this.fits(frameLength(longest, this.masked))) return false
    this.sent(this.encoding.shortText(text))
    return true
  }

  // There is nothing to do but to encode the message, or to pass its frame on.
  private sendDirect(message: Uint8Array | Prepared): boolean {
    if (!this.isDirect || this.owner.deflater !== undefined) return false
    const prepared = isPrepared(message)
    if (prepared && this.masked) return false
    const size = prepared ? message.frame.length : frameLength(message.length, false)
    if (!this.fits(size)) return false
    if (prepared && this.encodedLength === 0) this.lone = message.frame
    else if (prepared) this.encoding.encoded(message.frame)
    else this.encoding.frame(Opcode.binary, message, true)
    this.sent(size)
    return true
  }

  private sent(size: number): void {
    this.messages++
    this.bytes += size
    this.encodedMessages++
    this.encodedBytes += size
    this.schedule()
  }

  private controlFrame(opcode: Opcode, payload: Uint8Array, droppable = false): Outgoing {
    return Outgoing.control(opcode, payload, droppable, this.masked)
  }

  private accept(outgoing: Outgoing): void {
    this.count(outgoing)
    if (!this.isBusy && this.isQueueEmpty) this.encode(outgoing)
    else this.frames.append(outgoing)
    this.schedule()
  }

  private acceptMessage(outgoing: Outgoing): void {
    if (!this.isStreaming) return this.accept(outgoing)
    this.count(outgoing)
    this.frames.hold(outgoing)
  }

  private control(frame: Outgoing): void {
    this.count(frame)
    if (this.isBusy) this.frames.appendControl(frame)
    else this.encode(frame)
    this.schedule()
  }

  private count(outgoing: Outgoing): void {
    this.messages += outgoing.messages
    this.bytes += outgoing.size
  }

  private forget(outgoing: Outgoing): void {
    this.messages -= outgoing.messages
    this.bytes -= outgoing.size
  }

  private encode(outgoing: Outgoing): void {
    this.encodedMessages += outgoing.messages
    this.encodedBytes += outgoing.size
    outgoing.encode(this.encoding, this.owner.deflater)
  }

  private hasRoom(size: number): boolean {
    if (this.fits(size)) return true
    // The transport may take at once what is only waiting for the end of the turn.
    this.flush()
    return this.isAccepting && this.fits(size)
  }

  // A message larger than the bound is taken where nothing else waits. Behind a streamed message, something would.
  private fits(size: number): boolean {
    return (this.messages === 0 && !this.isStreaming) ||
      (this.messages < this.options.maxQueuedMessages && this.bytes + size <= this.options.maxQueuedBytes)
  }

  private suspend(message: Message | Prepared): Effect.Effect<void, SendError> {
    const outgoing = Outgoing.message(message, this.options.utf8, this.masked)
    return this.turns.senders.take(
      () => this.fits(outgoing.size),
      () => this.acceptMessage(outgoing),
      this
    )
  }

  private get turns(): Waiting {
    if (this.waiting === undefined) {
      this.waiting = new Waiting()
      if (!this.isAccepting) this.waiting.end()
    }
    return this.waiting
  }

  private get drainedResult(): Effect.Effect<void, SendError> {
    return this.hasLost ? Effect.fail(notOpen) : Effect.void
  }

  private settleDrained(): void {
    const waiters = this.drainWaiters
    if (waiters === undefined) return
    this.drainWaiters = undefined
    for (const resume of waiters) resume(this.drainedResult)
  }

  private full(): SendError {
    return new SendError({ reason: new QueueFull({ queuedMessages: this.messages, queuedBytes: this.bytes }) })
  }
}

// Gives one message after the other. Nearly always they are an array, for which an iterator would make an object for each.
const taker = <A>(messages: Iterable<A>): () => A | typeof noMore => {
  if (Array.isArray(messages)) {
    let i = 0
    return () => i < messages.length ? messages[i++] : noMore
  }
  const iterator = messages[Symbol.iterator]()
  return () => {
    const result = iterator.next()
    return result.done ? noMore : result.value
  }
}

const noMore = Symbol("noMore")

// With `Effect.suspend`, each message would need a function and what that knows of, too.
class Send extends Effectable.Class<void, SendError> {
  private readonly queue: SendQueue
  private readonly message: Message | Prepared

  constructor(queue: SendQueue, message: Message | Prepared) {
    super()
    this.queue = queue
    this.message = message
  }

  asEffect(): Effect.Effect<void, SendError> {
    return this.queue.acceptOrWait(this.message)
  }
}
