/**
 * Compressed messages (RFC 7692): the options, what a platform supplies, and the two halves of a connection that use it.
 *
 * @since 0.1.0
 */
import { isPrepared, type Message, type Prepared } from "./Message.ts"
import { Opcode } from "./protocol/Frame.ts"
import type { Direction, Parameters } from "./protocol/PerMessageDeflate.ts"
import { invalidDeflate, messageTooBig, type ProtocolViolation } from "./protocol/ProtocolViolation.ts"
import type { Utf8Codec } from "./protocol/Utf8.ts"

/**
 * How to compress, all optional.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `threshold` | 1,024 | the UTF-8 bytes from which on a message is compressed; of a streamed one, its first fragment counts |
 * | `level` | 6 | 1 is fast, 9 is small |
 * | `sending`, `receiving` | see below | each direction's `contextTakeover` (default `false`) and `windowBits` (default 15) |
 *
 * With context takeover, a message may refer to those before it: small messages that resemble each other become much
 * smaller, and each connection keeps up to 2^`windowBits` bytes of what went before, for each direction. Without, it keeps
 * nothing.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeflateOptions {
  readonly threshold?: number | undefined
  readonly level?: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | undefined
  readonly sending?: Partial<Direction> | undefined
  readonly receiving?: Partial<Direction> | undefined
}

/**
 * Raw DEFLATE of whole messages (RFC 1951), which the platform supplies.
 *
 * **Details**
 *
 * A `dictionary` is what went before, up to a window of it: a message may refer back to it.
 *
 * - `deflate` gives blocks that end on a byte boundary with an empty block without compression, whose last four bytes
 *   (`00 00 ff ff`) are left out (RFC 7692, section 7.2.1). No reference goes back more than 2^`windowBits` bytes.
 * - `inflate` undoes that (section 7.2.2), into a plain array that is nobody else's. It stops as soon as there are more than
 *   `maxBytes`. `"Invalid"` is what is not DEFLATE, or not all of it.
 *
 * Neither keeps anything, and neither throws.
 *
 * @category models
 * @since 0.1.0
 */
export interface Compression {
  readonly deflate: (
    bytes: Uint8Array,
    options: { readonly level: number; readonly windowBits: number; readonly dictionary: Uint8Array }
  ) => Uint8Array
  readonly inflate: (
    bytes: Uint8Array,
    options: { readonly maxBytes: number; readonly dictionary: Uint8Array }
  ) => Uint8Array | "Invalid" | "TooBig"
}

/**
 * A platform's compression with the options of an endpoint, all settled.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeflateSettings {
  readonly compression: Compression
  readonly threshold: number
  readonly level: number
  readonly wanted: Parameters
}

/**
 * The settings of an endpoint, with what its handshake agreed on.
 *
 * @category models
 * @since 0.1.0
 */
export interface NegotiatedDeflate {
  readonly settings: DeflateSettings
  readonly agreed: Parameters
}

/**
 * Settles the options: nothing if they turn compression off, or the platform has none.
 *
 * @category constructors
 * @since 0.1.0
 */
export const settle = (
  compression: Compression | undefined,
  options: boolean | DeflateOptions | undefined
): DeflateSettings | undefined => {
  if (compression === undefined || options === undefined || options === false) return undefined
  const { level = 6, receiving, sending, threshold = 1024 } = options === true ? {} : options
  return { compression, threshold, level, wanted: { sending: direction(sending), receiving: direction(receiving) } }
}

const direction = ({ contextTakeover = false, windowBits = 15 }: Partial<Direction> = {}): Direction => ({
  contextTakeover,
  windowBits
})

const empty = new Uint8Array(0)
const tail = Uint8Array.of(0x00, 0x00, 0xff, 0xff)

// What a prepared message is without context takeover, by level and window: equal for all who agreed on the same.
const shared = new WeakMap<Prepared, Map<number, Uint8Array>>()

/**
 * Compresses what one connection sends, in the order in which it is sent.
 *
 * @category models
 * @since 0.1.0
 */
export class MessageDeflater {
  private readonly settings: DeflateSettings
  private readonly direction: Direction
  private readonly utf8: Utf8Codec
  // The end of what was sent compressed. Without context takeover, there is one only during a streamed message.
  private window: Window | undefined
  private isStreaming = false

  constructor(settings: DeflateSettings, direction: Direction, utf8: Utf8Codec) {
    this.settings = settings
    this.direction = direction
    this.utf8 = utf8
  }

  /** The bytes of a payload from which on it is compressed. */
  get threshold(): number {
    return this.settings.threshold
  }

  /**
   * The payload of a data frame as it travels with RSV1 set on the first frame of its message; `undefined` if the message
   * travels as it is. `length` is the payload's in bytes.
   */
  deflate(opcode: Opcode, payload: Message | Prepared, length: number, fin: boolean): Uint8Array | undefined {
    if (opcode === Opcode.continuation) {
      return this.isStreaming ? this.fragment(this.bytesOf(payload, length), fin) : undefined
    }
    if (length < this.settings.threshold || length === 0) return undefined
    if (!fin) {
      this.isStreaming = true
      return this.fragment(this.bytesOf(payload, length), fin)
    }
    const { contextTakeover } = this.direction
    if (!contextTakeover && isPrepared(payload)) return smaller(this.shared(payload, length), length)
    const bytes = this.bytesOf(payload, length)
    const deflated = smaller(this.run(bytes), length)
    // What the peer does not inflate is not in its window either (RFC 7692, section 7.2.3.2).
    if (contextTakeover && deflated !== undefined) this.remember(bytes)
    return deflated
  }

  // Each fragment is flushed, and may refer to those before it.
  private fragment(bytes: Uint8Array, fin: boolean): Uint8Array {
    const deflated = this.run(bytes)
    this.remember(bytes)
    if (!fin) return concat(deflated, tail)
    this.isStreaming = false
    if (!this.direction.contextTakeover) this.window = undefined
    return deflated
  }

  private remember(bytes: Uint8Array): void {
    this.window ??= new Window(this.direction.windowBits)
    this.window.add(bytes)
  }

  private run(bytes: Uint8Array): Uint8Array {
    const { compression, level } = this.settings
    const dictionary = this.window?.bytes ?? empty
    return compression.deflate(bytes, { level, windowBits: this.direction.windowBits, dictionary })
  }

  private shared(prepared: Prepared, length: number): Uint8Array {
    let known = shared.get(prepared)
    if (known === undefined) shared.set(prepared, known = new Map())
    const key = this.settings.level * 16 + this.direction.windowBits
    let deflated = known.get(key)
    if (deflated === undefined) known.set(key, deflated = this.run(this.bytesOf(prepared, length)))
    return deflated
  }

  private bytesOf(payload: Message | Prepared, length: number): Uint8Array {
    if (typeof payload === "string") {
      const bytes = this.utf8.allocate(length)
      this.utf8.encodeInto(payload, bytes, 0)
      return bytes
    }
    return isPrepared(payload) ? payload.frame.subarray(payload.frame.length - length) : payload
  }
}

/**
 * Inflates what one connection receives, in order.
 *
 * @category models
 * @since 0.1.0
 */
export class MessageInflater {
  private readonly compression: Compression
  private readonly direction: Direction
  private readonly maxBytes: number
  private window: Window | undefined

  constructor(compression: Compression, direction: Direction, maxBytes: number) {
    this.compression = compression
    this.direction = direction
    this.maxBytes = maxBytes
  }

  /** The payload of a compressed message, or why the connection fails; stops at the limit. */
  inflate(payload: Uint8Array): Uint8Array | ProtocolViolation {
    const { maxBytes } = this
    const bytes = this.compression.inflate(payload, { maxBytes, dictionary: this.window?.bytes ?? empty })
    if (bytes === "TooBig") return messageTooBig(maxBytes)
    if (bytes === "Invalid") return invalidDeflate("the compressed payload is not DEFLATE")
    if (this.direction.contextTakeover) {
      this.window ??= new Window(this.direction.windowBits)
      this.window.add(bytes)
    }
    return bytes
  }
}

const smaller = (deflated: Uint8Array, length: number): Uint8Array | undefined =>
  deflated.length < length ? deflated : undefined

// The last bytes of all that was added, copied, as others may change what they gave. Holds no more than there was.
class Window {
  private readonly size: number
  private buffer: Uint8Array = empty
  private length = 0

  constructor(windowBits: number) {
    this.size = 2 ** windowBits
  }

  /** Good until the next call of `add`. */
  get bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length)
  }

  add(bytes: Uint8Array): void {
    const added = bytes.subarray(Math.max(0, bytes.length - this.size))
    const kept = Math.min(this.length, this.size - added.length)
    const before = this.buffer.subarray(this.length - kept, this.length)
    if (kept + added.length > this.buffer.length) {
      this.buffer = new Uint8Array(Math.min(this.size, Math.max(kept + added.length, this.buffer.length * 2)))
    }
    this.buffer.set(before)
    this.buffer.set(added, kept)
    this.length = kept + added.length
  }
}

const concat = (left: Uint8Array, right: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(left.length + right.length)
  bytes.set(left)
  bytes.set(right, left.length)
  return bytes
}
