/**
 * Frames to bytes (RFC 6455, section 5.2).
 *
 * @since 0.1.0
 */
import { type Frame, Opcode } from "./Frame.ts"
import * as Mask from "./Mask.ts"
import type { Utf8Codec } from "./Utf8.ts"

/**
 * The length of a frame's header, in bytes.
 *
 * @category encoding
 * @since 0.1.0
 */
export const headerLength = (payloadLength: number, masked: boolean): number =>
  (payloadLength < 126 ? 2 : payloadLength < 0x1_0000 ? 4 : 10) + (masked ? 4 : 0)

/**
 * Encodes one frame by itself; with a mask key as a client's frame, without one as a server's.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (frame: Frame, maskKey: number | undefined): Uint8Array => {
  const length = frame.payload.length
  const start = headerLength(length, maskKey !== undefined)
  const bytes = new Uint8Array(start + length)
  const firstByte = (frame.fin ? 0x80 : 0) | (frame.rsv << 4) | frame.opcode
  writeHeader(bytes, 0, firstByte, length, maskKey)
  bytes.set(frame.payload, start)
  if (maskKey !== undefined) Mask.apply(bytes, start, bytes.length, maskKey, 0)
  return bytes
}

const writeHeader = (
  bytes: Uint8Array,
  at: number,
  firstByte: number,
  length: number,
  maskKey: number | undefined
): void => {
  const maskBit = maskKey === undefined ? 0 : 0x80
  bytes[at++] = firstByte
  if (length < 126) {
    bytes[at++] = maskBit | length
  } else if (length < 0x1_0000) {
    bytes[at++] = maskBit | 126
    bytes[at++] = length >>> 8
    bytes[at++] = length
  } else {
    const high = Math.floor(length / 0x1_0000_0000)
    bytes[at++] = maskBit | 127
    bytes[at++] = high >>> 24
    bytes[at++] = high >>> 16
    bytes[at++] = high >>> 8
    bytes[at++] = high
    bytes[at++] = length >>> 24
    bytes[at++] = length >>> 16
    bytes[at++] = length >>> 8
    bytes[at++] = length
  }
  if (maskKey !== undefined) {
    bytes[at++] = maskKey >>> 24
    bytes[at++] = maskKey >>> 16
    bytes[at++] = maskKey >>> 8
    bytes[at] = maskKey
  }
}

// A payload of this size travels as its own chunk: copying it would cost more than a second buffer in the write.
const shareThreshold = 16 * 1024

// What is encoded in one turn begins in a small slab, and moves to a large one when it outgrows that: thousands of
// connections may have something to send in the same turn.
const smallSlab = 1024
const largeSlab = 64 * 1024

// Slabs that no encoder holds. An encoder has one only between its first frame and the write of it, so that thousands of
// idle connections share a few.
const freeSlabs = {
  small: { size: smallSlab, slabs: new Array<Uint8Array>(), most: 1024 },
  large: { size: largeSlab, slabs: new Array<Uint8Array>(), most: 16 }
}

// Encoders that nobody holds, for the same reason.
const spare: Array<FrameEncoder> = []
const mostSpare = 1024

/**
 * What encoders go by. `maskKey` makes the keys of a client's frames; a server has none.
 *
 * @category models
 * @since 0.1.0
 */
export interface FrameEncoderOptions {
  readonly maskKey: (() => number) | undefined
  readonly utf8: Utf8Codec
}

/**
 * Encodes frames one behind the other into as few chunks as possible.
 *
 * **Details**
 *
 * Small frames are written side by side into a slab of at most 64 KiB, so that what is sent in one turn leaves in one write.
 * The bytes of a message are copied when it is encoded, so the caller may reuse them; only an unmasked payload of 16 KiB and
 * more is shared, not copied.
 *
 * @category encoding
 * @since 0.1.0
 */
export class FrameEncoder {
  /** Bytes encoded and not yet taken. */
  bytes = 0

  private maskKey: (() => number) | undefined
  private utf8: Utf8Codec
  private chunks: Array<Uint8Array> = []
  private slab: Uint8Array | undefined
  // The one that the chunks taken last are in.
  private taken: Uint8Array | undefined
  private slabStart = 0
  private slabEnd = 0

  constructor(options: FrameEncoderOptions) {
    this.maskKey = options.maskKey
    this.utf8 = options.utf8
  }

  /** An encoder for one connection alone, until it is given back. */
  static borrow(options: FrameEncoderOptions): FrameEncoder {
    const encoder = spare.pop()
    if (encoder === undefined) return new FrameEncoder(options)
    encoder.maskKey = options.maskKey
    encoder.utf8 = options.utf8
    return encoder
  }

  /** For others to borrow; there must be nothing left to take or to release. */
  giveBack(): void {
    if (spare.length < mostSpare) spare.push(this)
  }

  /** Appends a text message in one frame; `length` is that of its UTF-8 encoding, in bytes. */
  text(text: string, length: number): void {
    const key = this.maskKey?.()
    const header = headerLength(length, key !== undefined)
    const target = this.reserve(header + length)
    const at = this.slabEnd
    writeHeader(target, at, 0x80 | Opcode.text, length, key)
    this.utf8.encodeInto(text, target, at + header)
    if (key !== undefined) Mask.apply(target, at + header, at + header + length, key, 0)
    this.advance(header + length)
  }

  /** Appends a text message without knowing its length before; returns the size of the frame. */
  shortText(text: string): number {
    const masked = this.maskKey !== undefined
    const target = this.reserve(headerLength(text.length * 3, masked) + text.length * 3)
    const at = this.slabEnd
    // Most text is ASCII, and its length that of its encoding.
    let header = headerLength(text.length, masked)
    const length = this.utf8.encodeInto(text, target, at + header)
    const needed = headerLength(length, masked)
    if (needed !== header) {
      target.copyWithin(at + needed, at + header, at + header + length)
      header = needed
    }
    const key = this.maskKey?.()
    writeHeader(target, at, 0x80 | Opcode.text, length, key)
    if (key !== undefined) Mask.apply(target, at + header, at + header + length, key, 0)
    this.advance(header + length)
    return header + length
  }

  /** Appends a frame; `rsv` holds the reserved bits. */
  frame(opcode: Opcode, payload: Uint8Array, fin: boolean, rsv = 0): void {
    const key = this.maskKey?.()
    const length = payload.length
    const header = headerLength(length, key !== undefined)
    const firstByte = (fin ? 0x80 : 0) | (rsv << 4) | opcode
    if (key === undefined && length >= shareThreshold) {
      writeHeader(this.reserve(header), this.slabEnd, firstByte, length, key)
      this.advance(header)
      this.share(payload)
      return
    }
    const target = this.reserve(header + length)
    const at = this.slabEnd
    writeHeader(target, at, firstByte, length, key)
    target.set(payload, at + header)
    if (key !== undefined) Mask.apply(target, at + header, at + header + length, key, 0)
    this.advance(header + length)
  }

  /** Appends bytes that are frames already, and do not change any more. */
  encoded(bytes: Uint8Array): void {
    if (bytes.length >= shareThreshold) return this.share(bytes)
    this.reserve(bytes.length).set(bytes, this.slabEnd)
    this.advance(bytes.length)
  }

  /** Hands over what was encoded, in order. */
  take(): ReadonlyArray<Uint8Array> {
    this.seal()
    const chunks = this.chunks
    this.chunks = []
    this.bytes = 0
    this.taken = this.slab
    this.slab = undefined
    this.slabStart = this.slabEnd = 0
    return chunks
  }

  /**
   * Gives the slab back once the chunks taken are no longer read by anybody (`reusable`), or leaves it to those who still
   * read them.
   */
  release(reusable: boolean): void {
    const slab = this.taken
    this.taken = undefined
    if (reusable && slab !== undefined) free(slab)
  }

  private share(bytes: Uint8Array): void {
    this.seal()
    this.chunks.push(bytes)
    this.bytes += bytes.length
  }

  private advance(length: number): void {
    this.slabEnd += length
    this.bytes += length
  }

  private reserve(length: number): Uint8Array {
    const { slab, slabEnd } = this
    if (slab !== undefined && slab.length - slabEnd >= length) return slab
    if (slab !== undefined && slab.length === smallSlab && this.slabStart === 0) {
      // Nothing of it is a chunk yet.
      this.slab = this.allocate(Math.max(slabEnd + length, largeSlab))
      this.slab.set(slab.subarray(0, slabEnd))
      free(slab)
      return this.slab
    }
    this.seal()
    this.slab = this.allocate(slab === undefined ? length : Math.max(length, largeSlab))
    this.slabStart = this.slabEnd = 0
    return this.slab
  }

  private allocate(length: number): Uint8Array {
    const { size, slabs } = length <= smallSlab ? freeSlabs.small : freeSlabs.large
    return length > size ? this.utf8.allocate(length) : slabs.pop() ?? this.utf8.allocate(size)
  }

  private seal(): void {
    if (this.slab === undefined || this.slabEnd === this.slabStart) return
    this.chunks.push(
      this.slabStart === 0 && this.slabEnd === this.slab.length
        ? this.slab
        : this.slab.subarray(this.slabStart, this.slabEnd)
    )
    this.slabStart = this.slabEnd
  }
}

const free = (slab: Uint8Array): void => {
  const { most, size, slabs } = slab.length <= smallSlab ? freeSlabs.small : freeSlabs.large
  if (slab.length === size && slabs.length < most) slabs.push(slab)
}
