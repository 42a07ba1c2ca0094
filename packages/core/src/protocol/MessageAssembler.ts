/**
 * Pieces of frames to messages (RFC 6455, sections 5.4, 5.6 and 8.1; compressed ones, RFC 7692, section 6.2).
 *
 * @since 0.1.0
 */
import { Opcode, rsv1 } from "./Frame.ts"
import type { FramePiece } from "./FrameDecoder.ts"
import {
  invalidUtf8,
  messageTooBig,
  policyViolation,
  protocolError,
  type ProtocolViolation
} from "./ProtocolViolation.ts"
import * as Utf8 from "./Utf8.ts"

/**
 * What one message may cost: bytes over all its fragments, and fragments (empty ones count).
 *
 * @category models
 * @since 0.1.0
 */
export interface MessageLimits {
  readonly maxMessageBytes: number
  readonly maxFragments: number
}

/**
 * Gives the payload of a compressed message, in an array that becomes the message, or why the connection fails; it stops at
 * the limit of a message.
 *
 * @category models
 * @since 0.1.0
 */
export type Inflate = (payload: Uint8Array) => Uint8Array | ProtocolViolation

type State = { readonly _tag: "Idle" } | Assembling

interface Assembling {
  readonly _tag: "Assembling"
  readonly opcode: Opcode
  /** There for a compressed message. */
  readonly inflate: Inflate | undefined
  fragments: number
  buffer: Uint8Array
  /** The buffer is given back: whoever gets the message gets a copy. */
  isBorrowed: boolean
  length: number
  /** What all its frames announced so far, and whether the last of them has begun. */
  announced: number
  isLast: boolean
  utf8: Utf8.State
}

const idle: State = { _tag: "Idle" }
const empty = new Uint8Array(0)
const firstCapacity = 4 * 1024
// Where less of the message has arrived or is to come, it is better read together with the frames around it.
const targetThreshold = 32 * 1024
// From this size on, filling an array with zeroes that are overwritten at once is felt.
const allocateThreshold = 1024

// What messages grew in before their end was known, for the next ones to grow in: a new buffer for each would cost more than
// all else, as V8 searches all memory whenever so much has been made outside its heap.
const spare: Array<Uint8Array> = []
const mostSpare = 4
const largestSpare = 4 * 1024 * 1024

/**
 * Assembles messages under limits that are checked before a byte is kept.
 *
 * **Details**
 *
 * Text is validated piece by piece, so that it fails at its first bad byte even in the middle of a frame. A message that
 * arrives whole in one frame is decoded straight from the chunk; any other is gathered in a buffer that grows with what
 * has arrived, not with what was announced. The limit holds for what arrives, and again for what it inflates to; a
 * compressed message is inflated, and its text validated, once it is complete.
 *
 * @category decoding
 * @since 0.1.0
 */
export class MessageAssembler {
  private limits: MessageLimits
  private utf8: Utf8.Utf8Codec
  private readonly inflate: Inflate | undefined
  private state: State = idle

  /** The bytes inflated since this was set to 0: they may be far more than arrived. */
  inflatedBytes = 0

  constructor(
    options: {
      readonly limits: MessageLimits
      readonly utf8: Utf8.Utf8Codec
      readonly inflate?: Inflate | undefined
    }
  ) {
    this.limits = options.limits
    this.utf8 = options.utf8
    this.inflate = options.inflate
  }

  /** Goes by other options from now on. Only while it is idle. */
  serve(options: { readonly limits: MessageLimits; readonly utf8: Utf8.Utf8Codec }): void {
    this.limits = options.limits
    this.utf8 = options.utf8
  }

  /** Tells whether no message is in the making. */
  get isIdle(): boolean {
    return this.state._tag === "Idle"
  }

  /** The bytes held for the message in the making. */
  get bytes(): number {
    return this.state._tag === "Idle" ? 0 : this.state.length
  }

  /**
   * Where the next bytes of the message may be put, of which `awaited` are still to come in its frame, so that they need not
   * be copied: a piece whose bytes are there is appended as it is.
   */
  target(awaited: number): Uint8Array | undefined {
    const message = this.state
    if (awaited < targetThreshold || message._tag === "Idle" || message.length < targetThreshold) return undefined
    this.reserve(message, message.length + 1)
    return message.buffer.subarray(message.length, message.length + awaited)
  }

  /** Takes a piece of a data frame; appends the message it completes, if any, to `out`. */
  push(piece: FramePiece, out: Array<string | Uint8Array>): ProtocolViolation | undefined {
    if (piece.first) {
      const violation = this.begin(piece)
      if (violation !== undefined) return violation
    }
    if (this.state._tag === "Idle") return this.whole(piece, out)
    const message = this.state
    if (message.opcode === Opcode.text && message.inflate === undefined) {
      message.utf8 = Utf8.validateWith(this.utf8, message.utf8, piece.bytes, piece.start, piece.end)
      if (message.utf8 === Utf8.reject) return invalidUtf8("text is not UTF-8")
    }
    this.append(message, piece)
    return piece.last && piece.fin ? this.complete(message, out) : undefined
  }

  // Checks the header against the message in progress (section 5.4) and the limits. Leaves the state idle when the whole
  // message is in this piece.
  private begin(piece: FramePiece): ProtocolViolation | undefined {
    const state = this.state
    if (state._tag === "Idle") {
      if (piece.opcode === Opcode.continuation) {
        return protocolError("5.4", "continuation frame without a message to continue")
      }
      if (piece.length > this.limits.maxMessageBytes) return messageTooBig(this.limits.maxMessageBytes)
      if (!(piece.fin && piece.last)) {
        const { fin, length: announced, opcode } = piece
        this.state = {
          _tag: "Assembling",
          opcode,
          inflate: this.inflateFor(piece),
          fragments: 1,
          buffer: empty,
          isBorrowed: false,
          length: 0,
          announced,
          isLast: fin,
          utf8: Utf8.accept
        }
      }
      return undefined
    }
    if (piece.opcode !== Opcode.continuation) {
      return protocolError("5.4", "new message inside a fragmented message")
    }
    // Extensions mark the first frame of a message only (RFC 7692, section 6.1).
    if (piece.rsv !== 0) return protocolError("5.2", "reserved bit set on a continuation frame")
    state.announced += piece.length
    if (state.announced > this.limits.maxMessageBytes) return messageTooBig(this.limits.maxMessageBytes)
    state.isLast = piece.fin
    state.fragments++
    if (state.fragments > this.limits.maxFragments) {
      return policyViolation(`message exceeds ${this.limits.maxFragments} fragments`)
    }
    return undefined
  }

  private whole(piece: FramePiece, out: Array<string | Uint8Array>): ProtocolViolation | undefined {
    const inflate = this.inflateFor(piece)
    if (inflate !== undefined) {
      return this.inflated(inflate(piece.bytes.subarray(piece.start, piece.end)), piece.opcode, out)
    }
    if (piece.opcode === Opcode.text) {
      const text = this.utf8.decode(piece.bytes, piece.start, piece.end, piece.isAscii)
      if (text === undefined) return invalidUtf8("text is not UTF-8")
      out.push(text)
    } else {
      out.push(this.copy(piece.bytes, piece.start, piece.end))
    }
    return undefined
  }

  private complete(message: Assembling, out: Array<string | Uint8Array>): ProtocolViolation | undefined {
    this.state = idle
    const violation = this.finish(message, out)
    if (message.isBorrowed) giveBack(message.buffer)
    return violation
  }

  private finish(message: Assembling, out: Array<string | Uint8Array>): ProtocolViolation | undefined {
    const { buffer, isBorrowed, length } = message
    if (message.inflate !== undefined) {
      return this.inflated(message.inflate(buffer.subarray(0, length)), message.opcode, out)
    }
    if (message.opcode === Opcode.text) {
      const text = message.utf8 === Utf8.accept ? this.utf8.decode(buffer, 0, length) : undefined
      if (text === undefined) return invalidUtf8("text is not UTF-8")
      out.push(text)
    } else {
      // What the growth of the buffer has left over was never written to: it may hold what was there before.
      out.push(isBorrowed || buffer.length > length ? this.copy(buffer, 0, length) : plain(buffer))
    }
    return undefined
  }

  // RFC 7692, section 6: RSV1 on the first frame marks a compressed message.
  private inflateFor(piece: FramePiece): Inflate | undefined {
    return (piece.rsv & rsv1) === 0 ? undefined : this.inflate
  }

  private inflated(
    payload: Uint8Array | ProtocolViolation,
    opcode: Opcode,
    out: Array<string | Uint8Array>
  ): ProtocolViolation | undefined {
    if ("_tag" in payload) return payload
    this.inflatedBytes += payload.length
    if (opcode === Opcode.text) {
      const text = this.utf8.decode(payload, 0, payload.length)
      if (text === undefined) return invalidUtf8("text is not UTF-8")
      out.push(text)
    } else {
      out.push(payload)
    }
    return undefined
  }

  private append(message: Assembling, { bytes, end, start }: FramePiece): void {
    if (start === end) return
    const { length } = message
    this.reserve(message, length + end - start)
    message.length += end - start
    const { buffer } = message
    const isInPlace = bytes.buffer === buffer.buffer && bytes.byteOffset + start === buffer.byteOffset + length
    if (!isInPlace) buffer.set(bytes.subarray(start, end), length)
  }

  // Grows by a factor, so that appending is linear over any number of fragments; by more once the end of the message is known,
  // as it is likely to come; and by some more, so that a power of two is not missed by a header.
  private reserve(message: Assembling, needed: number): void {
    const { announced, buffer, isBorrowed, isLast } = message
    if (needed <= buffer.length) return
    const most = isLast ? announced : this.limits.maxMessageBytes
    const grown = (isLast ? undefined : borrow(needed)) ??
      this.utf8.allocate(Math.max(needed, Math.min(most, firstCapacity + needed * (isLast ? 16 : 4))))
    grown.set(buffer.subarray(0, message.length))
    message.buffer = grown
    message.isBorrowed = !isLast && grown.length <= largestSpare
    if (isBorrowed) giveBack(buffer)
  }

  private copy(bytes: Uint8Array, start: number, end: number): Uint8Array {
    if (end - start < allocateThreshold) return plain(slice.call(bytes, start, end))
    const copy = this.utf8.allocate(end - start)
    copy.set(bytes.subarray(start, end))
    return plain(copy)
  }
}

const borrow = (length: number): Uint8Array | undefined => {
  const buffer = spare.pop()
  return buffer !== undefined && buffer.length >= length ? buffer : undefined
}

const giveBack = (buffer: Uint8Array): void => {
  if (spare.length < mostSpare) spare.push(buffer)
}

// That of Node's Buffer is a view.
const { slice } = Uint8Array.prototype

// A message is a plain Uint8Array on every platform.
const plain = (bytes: Uint8Array): Uint8Array =>
  bytes.constructor === Uint8Array ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
