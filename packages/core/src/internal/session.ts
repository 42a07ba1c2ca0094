/**
 * The life of a connection: the engine's decisions carried out on a transport.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import { CloseEvent, isNormal } from "../CloseEvent.ts"
import { MessageDeflater, MessageInflater, type NegotiatedDeflate } from "../Compression.ts"
import type { ConnectionState, ControlFrame } from "../Connection.ts"
import type { Heartbeat, Member } from "../Heartbeat.ts"
import * as CloseFrame from "../protocol/CloseFrame.ts"
import { type ControlEvent, Engine, type EngineOptions } from "../protocol/Engine.ts"
import type { ProtocolViolation } from "../protocol/ProtocolViolation.ts"
import { ReceiveQueue } from "../ReceiveQueue.ts"
import { SendQueue, type SendQueueOptions, type SendQueueOwner } from "../SendQueue.ts"
import type { Transport, TransportHandler } from "../Transport.ts"
import * as Errors from "../WebSocketError.ts"
import type { Deadline, Deadlines } from "./deadlines.ts"
import { Pings, unnumbered } from "./pings.ts"
import type { Place } from "./roster.ts"

export interface SessionSettings extends SendQueueOptions {
  readonly heartbeat: Heartbeat | undefined
  readonly engine: EngineOptions
  readonly receiveBufferBytes: number
  readonly closing: Deadlines
  readonly clock: Clock.Clock
  readonly runFork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
}

export type Observers<A> = Set<Queue.Queue<A, Cause.Done>>

type Failure = Errors.ConnectionError["reason"]

// A read of 128 KiB may hold 65,536 messages, and a small array costs 200 bytes beside its content. So only this many are
// decoded before there is a look at whether there is room for more.
const maxBatch = 1024

/**
 * One connection, as plain calls: the transport calls in, `Connection` wraps it in effects.
 */
export class Session implements TransportHandler, Member, SendQueueOwner {
  readonly transport: Transport
  readonly settings: SessionSettings
  readonly deflater: MessageDeflater | undefined
  readonly sending: SendQueue
  readonly receiving: ReceiveQueue
  // Most connections have none of these.
  stateObservers: Observers<ConnectionState> | undefined
  controlObservers: Observers<ControlFrame> | undefined

  state: ConnectionState = "Open"
  lastReceived: number
  pingedAt: number | undefined
  isReading = true
  // Why this side gave the connection up. What the peer did is read off the engine, at the end.
  failure: Failure | undefined

  private readonly engine: Engine
  private waitingPings: Pings | undefined
  private isPaused = false
  private hasPeerEnded = false
  private heartbeatPlace: Place | undefined
  private metricsPlace: Place | undefined
  private deadline: Deadline | undefined
  // Made by whoever waits for the end, or by the end.
  private ended: Deferred.Deferred<CloseEvent> | undefined

  constructor(transport: Transport, settings: SessionSettings, deflate: NegotiatedDeflate | undefined) {
    const { clock, engine, utf8 } = settings
    this.transport = transport
    this.settings = settings
    this.lastReceived = clock.currentTimeMillisUnsafe()
    this.deflater = deflate && new MessageDeflater(deflate.settings, deflate.agreed.sending, utf8)
    const inflater = deflate &&
      new MessageInflater(deflate.settings.compression, deflate.agreed.receiving, engine.limits.maxMessageBytes)
    this.engine = new Engine(inflater ? { ...engine, inflate: (payload) => inflater.inflate(payload) } : engine)
    this.receiving = new ReceiveQueue(this)
    this.sending = new SendQueue(settings, this)
  }

  get pings(): Pings {
    if (this.waitingPings === undefined) {
      this.waitingPings = new Pings()
      if (this.state === "Closed") this.waitingPings.end()
    }
    return this.waitingPings
  }

  get closed(): Effect.Effect<CloseEvent> {
    return Effect.suspend(() => Deferred.await(this.ended ??= Deferred.makeUnsafe()))
  }

  start(): void {
    this.heartbeatPlace = this.settings.heartbeat?.add(this)
    this.metricsPlace = this.settings.metrics?.opened(this)
    try {
      this.transport.start(this)
    } catch (cause) {
      // One that somebody has wrapped: nobody else would tell that this is the end.
      this.onClose(cause)
      throw cause
    }
  }

  // What the transport tells.

  onData(chunk: Uint8Array): void {
    const now = this.settings.clock.currentTimeMillisUnsafe()
    this.lastReceived = now
    const { metrics } = this.settings
    if (metrics !== undefined) metrics.receivedBytes += chunk.length
    this.sending.deferFlush()
    try {
      this.handle(this.engine.receive(chunk, now, maxBatch))
      this.proceed(now)
    } finally {
      // Also behind a callback of the user's that throws: the memory of the chunk is somebody else's next.
      if (this.engine.hasMore) this.engine.keep()
      this.sending.flush()
    }
  }

  target(): Uint8Array | undefined {
    return this.engine.target
  }

  // Goes on with what was read already, as far as there is room.
  private proceed(now: number): void {
    while (this.isReading && this.engine.hasMore) this.handle(this.engine.proceed(now, maxBatch))
  }

  // Takes in what was read already, whether there is room or not: the end comes after it. Only what has to be inflated is
  // left out where there is no room, for it may be a thousand times what was read.
  private finish(): void {
    if (this.engine.hasMore) this.handle(this.engine.proceed(this.lastReceived))
    while (this.engine.hasMore && !this.isFull) this.handle(this.engine.proceed(this.lastReceived))
  }

  private handle(events: ReadonlyArray<ControlEvent>): void {
    const messages = this.engine.takeMessages()
    // A Ping may have come inside a message: its Pong goes ahead of the answer to that. A Close or a violation is the last.
    for (const event of events) this.pingOrPong(event)
    if (messages !== undefined) this.deliver(messages)
    for (const event of events) this.closeOrViolation(event)
    this.updateReading()
  }

  onDrain(): void {
    this.sending.drained()
  }

  onEnd(): void {
    this.hasPeerEnded = true
    this.finish()
    this.engine.lose("Remote")
    // Without a closing handshake there is nothing to wait for; with one, our Close may still be on its way.
    if (this.engine.state._tag === "Lost") this.transport.destroy()
    else this.endTransport()
  }

  onClose(cause: unknown): void {
    if (this.state === "Closed") return
    this.finish()
    this.engine.lose("Remote")
    this.state = "Closed"
    this.leaveHeartbeat()
    if (this.deadline !== undefined) this.settings.closing.clear(this.deadline)
    const event = this.closeEvent()
    const failure = this.failure ??= this.failureOf(event, cause)
    if (this.metricsPlace !== undefined) {
      this.settings.metrics?.closed(this.metricsPlace, event, failure?._tag === "HeartbeatTimeout")
    }
    this.sending.end()
    this.waitingPings?.end()
    Deferred.doneUnsafe(this.ended ??= Deferred.makeUnsafe(), Effect.succeed(event))
    this.receiving.close(
      failure === undefined
        ? Cause.done()
        : Effect.fail(new Errors.ConnectionError({ reason: failure, closeEvent: event }))
    )
    this.stateObservers?.forEach((observer) => {
      Queue.offerUnsafe(observer, this.state)
      Queue.endUnsafe(observer)
    })
    this.controlObservers?.forEach((observer) => Queue.endUnsafe(observer))
  }

  onOverrun(): void {
    this.failure ??= new Errors.ReceiveOverflow({})
    this.beginClose({ code: 1008, reason: "slow reader" }, true)
  }

  // What the queues tell.

  onEmpty(): void {
    this.updateReading()
  }

  onOverflowClose(code: number): void {
    this.failure ??= new Errors.SlowConsumer({})
    this.beginClose({ code, reason: "slow consumer" }, true)
  }

  onFlushed(): void {
    this.endTransport()
  }

  // What the heartbeat asks for.

  sendHeartbeat(): void {
    this.sending.ping(this.waitingPings?.next() ?? unnumbered)
  }

  heartbeatLost(): void {
    this.failure ??= new Errors.HeartbeatTimeout({})
    this.drop()
  }

  // What the user asks for.

  setPaused(paused: boolean): void {
    this.isPaused = paused
    this.updateReading()
  }

  /** Begins to close: behind what is queued or, with `discard`, instead of it. Does nothing once closing has begun. */
  beginClose(close: CloseFrame.CloseFrame, discard: boolean): void {
    if (!this.engine.sendClose(close)) return
    this.beginEnd()
    this.sending.seal(CloseFrame.encode(close, this.settings.utf8), discard)
  }

  /** Drops the connection at once. */
  drop(): void {
    this.engine.lose("Local")
    this.transport.destroy()
  }

  /** Begins to close, without anybody left to receive. */
  release(close: CloseFrame.CloseFrame): void {
    this.receiving.discard()
    this.beginClose(close, false)
    this.updateReading()
  }

  private deliver(messages: Array<string | Uint8Array>): void {
    // During closing, reading goes on however full the buffer is, since the peer's Close may be behind. From the first
    // batch without room on, everything is dropped: an early end is better than a gap.
    if (this.state !== "Open" && this.isFull) this.receiving.stop()
    const { metrics } = this.settings
    if (metrics !== undefined) metrics.receivedMessages += messages.length
    this.receiving.offer(messages)
  }

  private pingOrPong(event: ControlEvent): void {
    switch (event._tag) {
      case "Ping":
        if (event.reply) this.sending.pong(event.payload)
        return this.observed(event)
      case "Pong":
        this.waitingPings?.answer(event.payload)
        return this.observed(event)
    }
  }

  private closeOrViolation(event: ControlEvent): void {
    switch (event._tag) {
      case "Close":
        // Section 5.5.1: the answer, with the code received, follows what is queued. If our Close came first, all is said.
        this.beginClose(event.close, false)
        return this.endTransport()
      case "Violation":
        return this.fail(event.violation, event.reply)
    }
  }

  private observed({ _tag, payload }: ControlFrame): void {
    this.controlObservers?.forEach((observer) => Queue.offerUnsafe(observer, { _tag, payload }))
  }

  // Section 7.1.7: the peer is told why, ahead of all that waits, and nothing of it is read any more.
  private fail(violation: ProtocolViolation, reply: boolean): void {
    const { closeCode: code, detail, section } = violation
    this.failure ??= new failures[violation._tag]({ section, detail })
    this.beginEnd()
    if (reply) this.sending.seal(CloseFrame.encode({ code, reason: detail }, this.settings.utf8), true)
    else this.endTransport()
  }

  private beginEnd(): void {
    if (this.state !== "Open") return
    this.state = "Closing"
    this.leaveHeartbeat()
    this.deadline = this.settings.closing.set(() => this.drop())
    this.stateObservers?.forEach((observer) => Queue.offerUnsafe(observer, this.state))
    this.updateReading()
  }

  private leaveHeartbeat(): void {
    if (this.heartbeatPlace !== undefined) this.settings.heartbeat?.remove(this.heartbeatPlace)
  }

  // Section 7.1.1: once both Close frames are out, the server ends the TCP connection, and the client lets it; whoever
  // fails the connection ends it too (section 7.1.7).
  private endTransport(): void {
    const { _tag } = this.engine.state
    const isOver = _tag === "Failed" ||
      (_tag === "Closed" && (this.settings.maskKey === undefined || this.hasPeerEnded))
    if (isOver && this.sending.isFlushed) this.transport.end()
  }

  // A message in the making is read to its end as long as nothing else is buffered: the message limit bounds it.
  private get isFull(): boolean {
    const { bytes } = this.receiving
    return bytes > 0 && bytes + this.engine.partialBytes >= this.settings.receiveBufferBytes
  }

  private updateReading(): void {
    const reading = this.state !== "Open" || !(this.isPaused || this.isFull)
    if (reading === this.isReading || this.state === "Closed") return
    this.isReading = reading
    if (reading) {
      this.lastReceived = this.settings.clock.currentTimeMillisUnsafe()
      this.proceed(this.lastReceived)
      if (this.isReading) this.transport.resume()
    } else {
      this.transport.pause()
    }
  }

  // Section 7.1.5: the code of the connection is that of the peer's Close, or says why there was none.
  private closeEvent(): CloseEvent {
    const state = this.engine.state
    switch (state._tag) {
      case "Closed": {
        const { code, reason } = state.received
        return new CloseEvent({
          code: code ?? 1005,
          reason,
          wasClean: this.sending.isFlushed,
          initiator: state.initiator
        })
      }
      case "Failed": {
        const { closeCode: code, detail: reason } = state.violation
        return new CloseEvent({ code, reason, wasClean: false, initiator: "Local" })
      }
      default: {
        const initiator = state._tag === "Lost" ? state.initiator : "Remote"
        return new CloseEvent({ code: 1006, reason: "", wasClean: false, initiator })
      }
    }
  }

  private failureOf(event: CloseEvent, cause: unknown): Failure | undefined {
    if (isNormal(event)) return undefined
    return event.code === 1006
      ? new Errors.ConnectionLost({ cause: cause ?? "the peer ended the connection without a Close frame" })
      : new Errors.PeerClosed({})
  }
}

const failures = {
  ProtocolError: Errors.ProtocolError,
  InvalidPayload: Errors.InvalidPayload,
  LimitExceeded: Errors.LimitExceeded
}
