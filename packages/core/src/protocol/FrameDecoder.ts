/**
 * Bytes to frames (RFC 6455, section 5.2).
 *
 * @since 0.1.0
 */
import { isControl, isOpcode, maxControlPayload, Opcode, type Role } from "./Frame.ts"
import * as Mask from "./Mask.ts"
import { protocolError, type ProtocolViolation } from "./ProtocolViolation.ts"

/**
 * A piece of a frame: the whole of a control frame, or as much of a data frame as has arrived.
 *
 * **Details**
 *
 * The payload of the piece is `bytes[start, end)`, unmasked. `length` is the payload length of the whole frame, known
 * from the first piece on, so that a limit can be checked before anything is kept. `first` and `last` tell whether the
 * piece begins and completes its frame, and `isAscii` whether a payload that was masked is known to be ASCII.
 *
 * **Gotchas**
 *
 * The decoder uses one piece over and over, and `bytes` may be the chunk that was pushed: neither may be kept after the
 * next call.
 *
 * @category models
 * @since 0.1.0
 */
export interface FramePiece {
  readonly _tag: "FramePiece"
  readonly fin: boolean
  readonly rsv: number
  readonly opcode: Opcode
  readonly length: number
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
  readonly first: boolean
  readonly last: boolean
  readonly isAscii: boolean
}

/**
 * What a decoder has to know of the connection.
 *
 * **Details**
 *
 * `role` is the role of the endpoint that decodes. `reservedBits` are the RSV bits that a negotiated extension uses, as a
 * number (RSV1 is 4); default 0.
 *
 * @category models
 * @since 0.1.0
 */
export interface FrameDecoderOptions {
  readonly role: Role
  readonly reservedBits?: number | undefined
}

type Expecting = "Header" | "Payload" | "Control" | "Nothing"

const empty = new Uint8Array(0)
const maxHeaderLength = 14
const twoTo32 = 0x1_0000_0000

/**
 * An incremental decoder: push a chunk, then take pieces until there is none.
 *
 * **Details**
 *
 * It checks each frame by itself, at the first byte that tells: reserved bits and opcodes, masking by role, the size and
 * finality of control frames; a length of 16 or 64 bits when it is there. It keeps at most an unfinished header and one
 * control payload (139 bytes), so its memory is bounded whatever arrives. After a violation it yields that violation
 * forever.
 *
 * **Gotchas**
 *
 * It unmasks in place: a pushed chunk belongs to the decoder until the pieces in it are taken, and is overwritten.
 *
 * @category decoding
 * @since 0.1.0
 */
export class FrameDecoder {
  private readonly masked: boolean
  private readonly reservedBits: number

  private chunk: Uint8Array = empty
  private at = 0

  private expecting: Expecting = "Header"
  private violation: ProtocolViolation | undefined

  // A header or a control payload that a chunk ended in. Allocated when first used.
  private head: Uint8Array = empty
  private headLength = 0
  private controlPayload: Uint8Array = empty
  private controlLength = 0

  private remaining = 0
  private maskKey = 0
  private phase = 0

  private readonly piece = {
    _tag: "FramePiece" as const,
    fin: true,
    rsv: 0,
    opcode: Opcode.text as Opcode,
    length: 0,
    bytes: empty as Uint8Array,
    start: 0,
    end: 0,
    first: true,
    last: true,
    isAscii: false
  }

  constructor(options: FrameDecoderOptions) {
    this.masked = options.role === "server"
    this.reservedBits = options.reservedBits ?? 0
  }

  /** Adds a chunk, behind what has not been taken of the one before. */
  push(chunk: Uint8Array): void {
    this.chunk = this.at < this.chunk.length ? joined(this.chunk.subarray(this.at), chunk) : chunk
    this.at = 0
  }

  /** Tells whether there may be pieces left to take. */
  get hasMore(): boolean {
    return this.chunk !== empty
  }

  /** Tells whether it waits for the first byte of a frame, as a new one does. */
  get isIdle(): boolean {
    return this.chunk === empty && this.expecting === "Header" && this.headLength === 0
  }

  /** How many bytes of a data frame the next chunk begins with, if it is that long. */
  get awaited(): number {
    return this.expecting === "Payload" && !this.hasMore ? this.remaining : 0
  }

  /** Copies what is left of the chunk, so that the chunk may be given back before its pieces are taken. */
  keep(): void {
    // Not `slice`: that of Node's Buffer is a view.
    this.chunk = new Uint8Array(this.chunk.subarray(this.at))
    this.at = 0
  }

  /** The next piece, the violation that ends decoding, or `undefined` when more bytes are needed. */
  next(): FramePiece | ProtocolViolation | undefined {
    switch (this.expecting) {
      case "Header":
        return this.header()
      case "Payload":
        return this.at < this.chunk.length ? this.data(false) : this.exhausted()
      case "Control":
        return this.at < this.chunk.length ? this.controlFrame() : this.exhausted()
      case "Nothing":
        return this.violation
    }
  }

  // Lets go of the chunk, which an idle connection should not keep alive.
  private exhausted(): undefined {
    this.chunk = empty
    this.piece.bytes = empty
    this.at = 0
    return undefined
  }

  private header(): FramePiece | ProtocolViolation | undefined {
    const available = this.chunk.length - this.at
    if (available === 0) return this.exhausted()
    if (this.headLength === 0) {
      const size = this.parseHeader(this.chunk, this.at, available)
      if (this.violation !== undefined) return this.fail()
      if (size === 0) {
        if (this.head === empty) this.head = new Uint8Array(maxHeaderLength)
        this.head.set(this.chunk.subarray(this.at))
        this.headLength = available
        return this.exhausted()
      }
      this.at += size
    } else {
      const before = this.headLength
      const copied = Math.min(maxHeaderLength - before, available)
      this.head.set(this.chunk.subarray(this.at, this.at + copied), before)
      const size = this.parseHeader(this.head, 0, before + copied)
      if (this.violation !== undefined) return this.fail()
      if (size === 0) {
        this.headLength += copied
        return this.exhausted()
      }
      this.at += size - before
      this.headLength = 0
    }
    return isControl(this.piece.opcode) ? this.controlFrame() : this.data(true)
  }

  // Parses the header at `bytes[at]` of which `available` bytes are there; returns its size, or 0 if it goes on.
  private parseHeader(bytes: Uint8Array, at: number, available: number): number {
    const first = bytes[at]!
    const piece = this.piece
    piece.fin = (first & 0x80) !== 0
    piece.rsv = (first >>> 4) & 0x7
    const opcode = first & 0xf
    if (!isOpcode(opcode)) return this.reject("5.2", `reserved opcode ${opcode}`)
    piece.opcode = opcode
    const control = isControl(opcode)
    // RFC 7692, section 6.1 and RFC 6455, section 5.2: no extension we know marks control frames.
    if ((piece.rsv & ~(control ? 0 : this.reservedBits)) !== 0) {
      return this.reject("5.2", "reserved bit set without an extension that defines it")
    }
    if (control && !piece.fin) return this.reject("5.5", "fragmented control frame")
    if (available < 2) return 0

    const second = bytes[at + 1]!
    if (((second & 0x80) !== 0) !== this.masked) {
      return this.reject("5.1", this.masked ? "client frame without mask" : "server frame with mask")
    }
    let length = second & 0x7f
    let size = 2
    if (length > maxControlPayload) {
      if (control) return this.reject("5.5", "control frame longer than 125 bytes")
      if (length === 126) {
        if (available < 4) return 0
        length = (bytes[at + 2]! << 8) | bytes[at + 3]!
        size = 4
        if (length < 126) return this.reject("5.2", "payload length not in its shortest form")
      } else {
        if (available < 10) return 0
        const high = uint32(bytes, at + 2)
        if (high >= 0x8000_0000) return this.reject("5.2", "payload length with its most significant bit set")
        // Beyond 2^53 the sum is inexact, but still far above any limit.
        length = high * twoTo32 + uint32(bytes, at + 6)
        size = 10
        if (length < 0x1_0000) return this.reject("5.2", "payload length not in its shortest form")
      }
    }
    if (this.masked) {
      if (available < size + 4) return 0
      this.maskKey = uint32(bytes, at + size) | 0
      this.phase = 0
      size += 4
    }
    piece.length = length
    this.remaining = length
    return size
  }

  private data(first: boolean): FramePiece {
    const { chunk, piece } = this
    const start = this.at
    const end = Math.min(chunk.length, start + this.remaining)
    if (this.masked) {
      piece.isAscii = Mask.apply(chunk, start, end, this.maskKey, this.phase)
      this.phase = (this.phase + end - start) & 3
    }
    this.at = end
    this.remaining -= end - start
    // A write of a young object into an old one costs as much as all of this.
    if (piece.bytes !== chunk) piece.bytes = chunk
    piece.start = start
    piece.end = end
    piece.first = first
    piece.last = this.remaining === 0
    this.expecting = piece.last ? "Header" : "Payload"
    return piece
  }

  private controlFrame(): FramePiece | undefined {
    const { chunk, piece } = this
    if (this.expecting === "Header" && chunk.length - this.at >= this.remaining) return this.data(true)
    if (this.expecting === "Header") {
      this.expecting = "Control"
      this.controlPayload = new Uint8Array(piece.length)
      this.controlLength = 0
    }
    const copied = Math.min(chunk.length - this.at, piece.length - this.controlLength)
    this.controlPayload.set(chunk.subarray(this.at, this.at + copied), this.controlLength)
    this.at += copied
    this.controlLength += copied
    if (this.controlLength < piece.length) return this.exhausted()
    piece.isAscii = this.masked && Mask.apply(this.controlPayload, 0, piece.length, this.maskKey, 0)
    piece.bytes = this.controlPayload
    piece.start = 0
    piece.end = piece.length
    piece.first = true
    piece.last = true
    this.controlPayload = empty
    this.expecting = "Header"
    return piece
  }

  private reject(section: string, detail: string): number {
    this.violation = protocolError(section, detail)
    return 0
  }

  private fail(): ProtocolViolation | undefined {
    this.expecting = "Nothing"
    this.exhausted()
    return this.violation
  }
}

const joined = (rest: Uint8Array, chunk: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(rest.length + chunk.length)
  bytes.set(rest)
  bytes.set(chunk, rest.length)
  return bytes
}

const uint32 = (bytes: Uint8Array, at: number): number =>
  ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
