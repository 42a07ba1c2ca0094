/**
 * Frames as a test wants them on the wire, right or wrong.
 *
 * @since 0.1.0
 */
import { Opcode, type Role } from "@effect-ws/core/protocol/Frame"
import { concat } from "./internal/frameScanner.ts"

/**
 * A frame to be sent. What is left out is as RFC 6455, section 5.2 demands; everything can be made illegal.
 *
 * **Details**
 *
 * | property | default | meaning |
 * |---|---|---|
 * | `fin` | true | the last fragment of its message |
 * | `rsv` | 0 | the three reserved bits as a number: RSV1 is 4 |
 * | `masked` | by the sender's role | whether it is masked |
 * | `maskKey` | 37 fa 21 3d | the masking key |
 * | `announced` | that of the payload | the length that the header tells |
 * | `lengthBits` | the fewest | the bits that the length is written in |
 * | `upTo` | all | how many bytes of the frame are sent |
 *
 * @category models
 * @since 0.1.0
 */
export interface Frame extends FrameOptions {
  readonly opcode: number
  readonly payload: Uint8Array
}

/**
 * The properties of a {@link Frame} beside its opcode and payload.
 *
 * @category models
 * @since 0.1.0
 */
export interface FrameOptions {
  readonly fin?: boolean
  readonly rsv?: number
  readonly announced?: number
  readonly lengthBits?: 7 | 16 | 64
  readonly masked?: boolean
  readonly maskKey?: readonly [number, number, number, number]
  readonly upTo?: number
}

/**
 * What a payload is made from. Text stands for its UTF-8.
 *
 * @category models
 * @since 0.1.0
 */
export type Payload = string | Uint8Array | ReadonlyArray<number>

/**
 * Options that say: not the last fragment of its message.
 *
 * @category models
 * @since 0.1.0
 */
export const more: FrameOptions = { fin: false }

const encoder = new TextEncoder()

/**
 * The bytes of a payload.
 *
 * @category constructors
 * @since 0.1.0
 */
export const bytesOf = (payload: Payload): Uint8Array =>
  typeof payload === "string" ? encoder.encode(payload) : Uint8Array.from(payload)

/**
 * Bytes in which a shift, a gap or a wrong mask would show.
 *
 * @category constructors
 * @since 0.1.0
 */
export const pattern = (length: number, seed = 0): Uint8Array => {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = seed + i * 7 + (i >>> 8)
  return bytes
}

/**
 * A frame of any opcode.
 *
 * **Example** (Frames that break a rule)
 *
 * ```ts
 * import { Wire } from "@effect-ws/test-kit"
 *
 * const reserved = Wire.frame(0x3, "x")
 * const unmasked = Wire.text("hello", { masked: false })
 * const fragmentedPing = Wire.ping("p", { fin: false })
 * const announcesTooMuch = Wire.binary([1, 2, 3], { announced: 2 ** 40 })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const frame = (opcode: number, payload: Payload = "", options: FrameOptions = {}): Frame => ({
  ...options,
  opcode,
  payload: bytesOf(payload)
})

/**
 * A text frame: a whole message unless `fin` is false.
 *
 * @category constructors
 * @since 0.1.0
 */
export const text = (payload?: Payload, options?: FrameOptions): Frame => frame(Opcode.text, payload, options)

/**
 * A binary frame: a whole message unless `fin` is false.
 *
 * @category constructors
 * @since 0.1.0
 */
export const binary = (payload?: Payload, options?: FrameOptions): Frame => frame(Opcode.binary, payload, options)

/**
 * A further fragment of a message: the last one unless `fin` is false.
 *
 * @category constructors
 * @since 0.1.0
 */
export const continuation = (payload?: Payload, options?: FrameOptions): Frame =>
  frame(Opcode.continuation, payload, options)

/**
 * A Ping.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ping = (payload?: Payload, options?: FrameOptions): Frame => frame(Opcode.ping, payload, options)

/**
 * A Pong.
 *
 * @category constructors
 * @since 0.1.0
 */
export const pong = (payload?: Payload, options?: FrameOptions): Frame => frame(Opcode.pong, payload, options)

/**
 * A Close with any code, or none. The reason may be bytes that are not UTF-8.
 *
 * @category constructors
 * @since 0.1.0
 */
export const close = (code?: number, reason: Payload = "", options?: FrameOptions): Frame =>
  frame(Opcode.close, code === undefined ? [] : [code >>> 8, code & 0xff, ...bytesOf(reason)], options)

/**
 * Encodes frames one behind the other, as an endpoint of the given role sends them.
 *
 * **Details**
 *
 * It shares no code with the encoder of the connections, so that neither vouches for the other.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (sender: Role, frames: ReadonlyArray<Frame>): Uint8Array =>
  concat(frames.map((frame) => encodeOne(sender, frame)))

const encodeOne = (sender: Role, frame: Frame): Uint8Array => {
  const { fin = true, masked = sender === "client", maskKey = [0x37, 0xfa, 0x21, 0x3d], payload, rsv = 0 } = frame
  const length = frame.announced ?? payload.length
  const lengthBits = frame.lengthBits ?? (length <= 125 ? 7 : length <= 0xffff ? 16 : 64)
  const header = [
    (fin ? 0x80 : 0) | (rsv << 4) | frame.opcode,
    (masked ? 0x80 : 0) | (lengthBits === 7 ? length : lengthBits === 16 ? 126 : 127),
    ...(lengthBits === 7 ? [] : bigEndian(length, lengthBits / 8)),
    ...(masked ? maskKey : [])
  ]
  const bytes = new Uint8Array(header.length + payload.length)
  bytes.set(header)
  bytes.set(masked ? payload.map((byte, i) => byte ^ maskKey[i % 4]!) : payload, header.length)
  return bytes.subarray(0, frame.upTo)
}

const bigEndian = (value: number, size: number): Array<number> =>
  Array.from({ length: size }, (_, i) => Number((BigInt(value) >> BigInt(8 * (size - 1 - i))) & 0xffn))
