/**
 * Frames as they pass on the wire, legal or not.
 *
 * @since 0.1.0
 */

/** What the header of a frame says. */
export interface Head {
  readonly fin: boolean
  readonly rsv: number
  readonly opcode: number
  readonly masked: boolean
  readonly length: number
}

/** A stretch of a frame as it passed: its header, or a part of its payload. */
export interface Segment {
  readonly head: Head
  readonly raw: Uint8Array
  /** Where in the payload it begins; `undefined` for the header. */
  readonly offset: number | undefined
  readonly maskKey: ReadonlyArray<number>
  readonly last: boolean
}

/**
 * Cuts a stream of bytes into frames without judging them: no rule of the RFC is checked, so that what breaks one can be
 * seen, told and tampered with.
 */
export class FrameScanner {
  private header: Array<number> = []
  private head: Head | undefined
  private maskKey: ReadonlyArray<number> = []
  private offset = 0

  /** How many bytes of a header have come whose rest is missing. */
  get headerBytes(): number {
    return this.header.length
  }

  push(chunk: Uint8Array): Array<Segment> {
    const segments: Array<Segment> = []
    let at = 0
    while (at < chunk.length) {
      if (this.head === undefined) {
        const segment = this.readHeader(chunk[at++]!)
        if (segment !== undefined) segments.push(segment)
      } else {
        const { head, maskKey, offset } = this
        const raw = chunk.subarray(at, at + head.length - offset)
        at += raw.length
        this.offset += raw.length
        const last = this.offset === head.length
        segments.push({ head, raw, offset, maskKey, last })
        if (last) this.head = undefined
      }
    }
    return segments
  }

  private readHeader(byte: number): Segment | undefined {
    const { header } = this
    header.push(byte)
    const [first = 0, second = 0] = header
    const lengthBytes = (second & 0x7f) === 126 ? 2 : (second & 0x7f) === 127 ? 8 : 0
    const masked = (second & 0x80) !== 0
    if (header.length < 2 || header.length < 2 + lengthBytes + (masked ? 4 : 0)) return undefined
    const length = lengthBytes === 0
      ? second & 0x7f
      : header.slice(2, 2 + lengthBytes).reduce((sum, byte) => sum * 256 + byte, 0)
    const head = { fin: (first & 0x80) !== 0, rsv: (first >>> 4) & 7, opcode: first & 0xf, masked, length }
    this.maskKey = masked ? header.slice(-4) : []
    this.header = []
    this.offset = 0
    this.head = length === 0 ? undefined : head
    return { head, raw: Uint8Array.from(header), offset: undefined, maskKey: this.maskKey, last: length === 0 }
  }
}

/** A whole frame, its payload unmasked. */
export interface ScannedFrame extends Head {
  readonly payload: Uint8Array
}

/** Gathers the segments of frames into whole ones. */
export class FrameCollector {
  private readonly scanner = new FrameScanner()
  private parts: Array<Uint8Array> = []

  push(chunk: Uint8Array): Array<ScannedFrame> {
    const frames: Array<ScannedFrame> = []
    for (const { head, last, maskKey, offset, raw } of this.scanner.push(chunk)) {
      if (offset !== undefined) {
        this.parts.push(head.masked ? copy(raw).map((byte, i) => byte ^ maskKey[(offset + i) & 3]!) : copy(raw))
      }
      if (!last) continue
      frames.push({ ...head, payload: concat(this.parts) })
      this.parts = []
    }
    return frames
  }

  /** Tells whether a frame has begun and not ended. */
  get isPartial(): boolean {
    return this.parts.length > 0
  }
}

/** Copies bytes, of whatever subclass: the `slice` of Node's is a view of the same memory. */
export const copy = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes)

/** Joins arrays of bytes. */
export const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}
