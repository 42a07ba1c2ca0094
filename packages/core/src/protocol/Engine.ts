/**
 * The life of a connection after its handshake, without IO: bytes and commands in; messages, control events and the
 * replies they call for out (RFC 6455, sections 5.5 and 7).
 *
 * @since 0.1.0
 */
import * as CloseFrame from "./CloseFrame.ts"
import { Opcode, type Role, rsv1 } from "./Frame.ts"
import { FrameDecoder, type FramePiece } from "./FrameDecoder.ts"
import { type Inflate, MessageAssembler, type MessageLimits } from "./MessageAssembler.ts"
import { policyViolation, type ProtocolViolation } from "./ProtocolViolation.ts"
import type { Utf8Codec } from "./Utf8.ts"

/**
 * Every transition of a connection. What is not listed leaves the state as it is.
 *
 * **Details**
 *
 * | state | meaning |
 * |---|---|
 * | `Open` | messages travel both ways |
 * | `CloseSent` | our Close is on its way; the peer's messages still count (section 5.5.1) |
 * | `CloseReceived` | the peer's Close is in; ours has to follow what is queued before it (section 5.5.1) |
 * | `Closed` | both Close frames are exchanged: the closing handshake is complete (section 7.1.4) |
 * | `Failed` | the peer broke a rule: nothing of it is read any more (section 7.1.7) |
 * | `Lost` | the transport ended before the closing handshake did (section 7.1.5: code 1006) |
 *
 * @category models
 * @since 0.1.0
 */
export const transitions = {
  Open: { sendClose: "CloseSent", receiveClose: "CloseReceived", violate: "Failed", lose: "Lost" },
  CloseSent: { receiveClose: "Closed", violate: "Failed", lose: "Lost" },
  CloseReceived: { sendClose: "Closed", lose: "Lost" },
  Closed: {},
  Failed: {},
  Lost: {}
} as const satisfies Record<string, Partial<Record<Input, string>>>

/**
 * What moves a connection from one state to another.
 *
 * @category models
 * @since 0.1.0
 */
export type Input = "sendClose" | "receiveClose" | "violate" | "lose"

/**
 * The state of a connection, with what its end is told by.
 *
 * @category models
 * @since 0.1.0
 */
export type State =
  | { readonly _tag: "Open" }
  | { readonly _tag: "CloseSent"; readonly sent: CloseFrame.CloseFrame }
  | { readonly _tag: "CloseReceived"; readonly received: CloseFrame.CloseFrame }
  | { readonly _tag: "Closed"; readonly received: CloseFrame.CloseFrame; readonly initiator: "Local" | "Remote" }
  | { readonly _tag: "Failed"; readonly violation: ProtocolViolation }
  | { readonly _tag: "Lost"; readonly initiator: "Local" | "Remote" }

/**
 * A control frame that arrived, or the end of what can be read.
 *
 * **Details**
 *
 * `reply` is what has to be sent: a Pong with the Ping's payload (section 5.5.2), or the Close that tells the peer what it
 * did wrong (section 7.1.7); nothing once our own Close is on its way (section 5.5.1). The answer to a Close is up to the
 * caller, who decides what may go out before it: see {@link Engine.sendClose}.
 *
 * @category models
 * @since 0.1.0
 */
export type ControlEvent =
  | { readonly _tag: "Ping"; readonly payload: Uint8Array; readonly reply: boolean }
  | { readonly _tag: "Pong"; readonly payload: Uint8Array }
  | { readonly _tag: "Close"; readonly close: CloseFrame.CloseFrame }
  | { readonly _tag: "Violation"; readonly violation: ProtocolViolation; readonly reply: boolean }

/**
 * What an engine takes from its peer.
 *
 * @category models
 * @since 0.1.0
 */
export interface EngineLimits extends MessageLimits {
  /** More Ping, Pong and Close frames than this within one second are answered with 1008. */
  readonly maxControlFramesPerSecond: number
}

/**
 * What an engine is made of. With `inflate`, messages may be compressed (RFC 7692); otherwise RSV1 is a violation.
 *
 * @category models
 * @since 0.1.0
 */
export interface EngineOptions {
  readonly role: Role
  readonly limits: EngineLimits
  readonly utf8: Utf8Codec
  readonly inflate?: Inflate | undefined
}

interface Parser {
  readonly decoder: FrameDecoder
  readonly assembler: MessageAssembler
}

const makeParser = (options: EngineOptions): Parser => ({
  decoder: new FrameDecoder({ role: options.role, reservedBits: options.inflate === undefined ? 0 : rsv1 }),
  assembler: new MessageAssembler(options)
})

// Between two messages, a parser knows nothing of its connection. So an engine has one only from the first byte of a message
// to its last, and thousands of idle ones share this.
const spare: Record<Role, Parser | undefined> = { server: undefined, client: undefined }

const takeParser = (options: EngineOptions): Parser => {
  const { role } = options
  const parser = spare[role]
  if (parser === undefined) return makeParser(options)
  spare[role] = undefined
  parser.assembler.serve(options)
  return parser
}

const none: ReadonlyArray<ControlEvent> = []
// Copied where an array is needed, as V8 makes those of a literal among the old objects once many were kept long (see `Consumer`
// in ReceiveQueue.ts): a generator that pulls keeps its last batch until the next. It had an element once: an array that never
// had is one of small integers to V8, and changes with its first message.
const noMessages: ReadonlyArray<string | Uint8Array> = [""].slice(1)
const open: State = { _tag: "Open" }
// What was read may inflate to a thousand times as much. So when this much has been, there is a look at whether there is room.
const maxInflatedBytes = 64 * 1024

/**
 * The state machine of one connection.
 *
 * **Gotchas**
 *
 * `receive` overwrites the chunk it is given, and keeps nothing of it; unless it was told to stop early: then
 * {@link Engine.keep} has to be called before the chunk is given back.
 *
 * @category models
 * @since 0.1.0
 */
export class Engine {
  private readonly options: EngineOptions
  // There from the first byte of a message to its last; what may have to be inflated has one of its own.
  private parser: Parser | undefined
  // There only between a read and the taking of its messages.
  private inbox: Array<string | Uint8Array> | undefined
  private current: State = open
  private windowStart = 0
  private controlFrames = 0

  constructor(options: EngineOptions) {
    this.options = options
    this.parser = options.inflate && makeParser(options)
  }

  get state(): State {
    return this.current
  }

  /** The bytes held for a message that has not arrived whole. */
  get partialBytes(): number {
    return this.parser?.assembler.bytes ?? 0
  }

  /**
   * Takes a chunk that arrived at `now` (milliseconds): every complete message in it is kept for {@link takeMessages},
   * and everything else of note is returned in order. Bytes behind a Close or a violation are ignored (sections 5.5.1 and 7.1.7).
   * It stops early when `maxMessages` are kept, or messages that were inflated to 64 KiB or more; see {@link hasMore}.
   */
  receive(chunk: Uint8Array, now: number, maxMessages = Infinity): ReadonlyArray<ControlEvent> {
    if (!this.isReading) return none
    this.parser ??= takeParser(this.options)
    this.parser.decoder.push(chunk)
    return this.proceed(now, maxMessages)
  }

  /** Goes on with a chunk where it stopped early; everything before was taken. */
  proceed(now: number, maxMessages = Infinity): ReadonlyArray<ControlEvent> {
    if (!this.isReading || this.parser === undefined) return none
    const { assembler, decoder } = this.parser
    const inbox = this.inbox ??= noMessages.slice()
    let events: Array<ControlEvent> | undefined
    while (inbox.length < maxMessages && assembler.inflatedBytes < maxInflatedBytes) {
      const piece = decoder.next()
      if (piece === undefined) break
      if (piece._tag === "FramePiece" && piece.opcode < Opcode.close) {
        const violation = assembler.push(piece, inbox)
        if (violation === undefined) continue
        events = append(events, this.violate(violation))
      } else {
        events = append(events, piece._tag === "FramePiece" ? this.control(piece, now) : this.violate(piece))
      }
      // Only what is not a message can have changed that.
      if (!this.isReading) break
    }
    if (this.options.inflate === undefined && decoder.isIdle && assembler.isIdle) {
      spare[this.options.role] = this.parser
      this.parser = undefined
    }
    return events ?? none
  }

  /** Where the next chunk, or its beginning, may be put, so that it need not be copied; if that is worth it. */
  get target(): Uint8Array | undefined {
    if (!this.isReading || this.parser === undefined) return undefined
    return this.parser.assembler.target(this.parser.decoder.awaited)
  }

  /** Tells whether something of the chunk is left, because it stopped early. */
  get hasMore(): boolean {
    return this.isReading && this.parser !== undefined && this.parser.decoder.hasMore
  }

  /** Copies what is left of the chunk. */
  keep(): void {
    this.parser?.decoder.keep()
  }

  /** The messages that were completed since the last call, in order. */
  takeMessages(): Array<string | Uint8Array> | undefined {
    const messages = this.inbox
    this.inbox = undefined
    if (messages === undefined || messages.length === 0) return undefined
    if (this.parser !== undefined) this.parser.assembler.inflatedBytes = 0
    return messages
  }

  /** Moves on after a Close was queued for sending; tells whether one may be sent at all in this state. */
  sendClose(sent: CloseFrame.CloseFrame): boolean {
    const state = this.current
    if (state._tag === "Open") {
      this.enter("sendClose", { _tag: "CloseSent", sent })
    } else if (state._tag === "CloseReceived") {
      this.enter("sendClose", { _tag: "Closed", received: state.received, initiator: "Remote" })
    } else {
      return false
    }
    return true
  }

  /** Moves on after the transport has ended, or (`initiator` "Local") because this side gives it up. */
  lose(initiator: "Local" | "Remote"): void {
    this.enter("lose", { _tag: "Lost", initiator: this.current._tag === "CloseSent" ? "Local" : initiator })
  }

  private get isReading(): boolean {
    return this.current._tag === "Open" || this.current._tag === "CloseSent"
  }

  private enter(input: Input, next: State): void {
    const row: Partial<Record<Input, string>> = transitions[this.current._tag]
    if (row[input] === next._tag) this.current = next
  }

  private control(piece: FramePiece, now: number): ControlEvent {
    const elapsed = now - this.windowStart
    // A clock that was set back begins a new window, or one window would last until it has caught up.
    if (elapsed >= 1000 || elapsed < 0) {
      this.windowStart = now
      this.controlFrames = 0
    }
    const { maxControlFramesPerSecond } = this.options.limits
    if (++this.controlFrames > maxControlFramesPerSecond) {
      return this.violate(policyViolation(`more than ${maxControlFramesPerSecond} control frames in a second`))
    }
    const payload = new Uint8Array(piece.bytes.subarray(piece.start, piece.end))
    switch (piece.opcode) {
      case Opcode.ping:
        return { _tag: "Ping", payload, reply: this.current._tag === "Open" }
      case Opcode.pong:
        return { _tag: "Pong", payload }
      default:
        return this.close(payload)
    }
  }

  private close(payload: Uint8Array): ControlEvent {
    const received = CloseFrame.decode(payload, this.options.utf8)
    if ("_tag" in received) return this.violate(received)
    this.enter(
      "receiveClose",
      this.current._tag === "CloseSent"
        ? { _tag: "Closed", received, initiator: "Local" }
        : { _tag: "CloseReceived", received }
    )
    return { _tag: "Close", close: received }
  }

  private violate(violation: ProtocolViolation): ControlEvent {
    const reply = this.current._tag === "Open"
    this.enter("violate", { _tag: "Failed", violation })
    return { _tag: "Violation", violation, reply }
  }
}

const append = (events: Array<ControlEvent> | undefined, event: ControlEvent): Array<ControlEvent> => {
  if (events === undefined) return [event]
  events.push(event)
  return events
}
