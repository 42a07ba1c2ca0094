/**
 * A frame to send.
 *
 * @since 0.1.0
 */
import type { MessageDeflater } from "../Compression.ts"
import { isPrepared, type Message, type Prepared } from "../Message.ts"
import { Opcode, rsv1 } from "../protocol/Frame.ts"
import { type FrameEncoder, headerLength } from "../protocol/FrameEncoder.ts"
import type { Utf8Codec } from "../protocol/Utf8.ts"

export const frameLength = (length: number, masked: boolean): number => headerLength(length, masked) + length

/**
 * A frame as it waits. Droppable are whole messages and, among the control frames, the answer to a Ping.
 *
 * A class, not a literal, for the reason of `Consumer` in ReceiveQueue.ts: many may wait long.
 */
export class Outgoing {
  readonly opcode: Opcode
  readonly payload: Message | Prepared
  readonly length: number
  readonly fin: boolean
  readonly droppable: boolean
  private readonly masked: boolean

  private constructor(
    opcode: Opcode,
    payload: Message | Prepared,
    length: number,
    fin: boolean,
    droppable: boolean,
    masked: boolean
  ) {
    this.opcode = opcode
    this.payload = payload
    this.length = length
    this.fin = fin
    this.droppable = droppable
    this.masked = masked
  }

  static message(payload: Message | Prepared, utf8: Utf8Codec, masked: boolean): Outgoing {
    const message = isPrepared(payload) ? payload.message : payload
    return typeof message === "string"
      ? new Outgoing(Opcode.text, payload, utf8.byteLength(message), true, true, masked)
      : new Outgoing(Opcode.binary, payload, message.length, true, true, masked)
  }

  static fragment(opcode: Opcode, payload: Uint8Array, fin: boolean, masked: boolean): Outgoing {
    return new Outgoing(opcode, payload, payload.length, fin, false, masked)
  }

  static control(opcode: Opcode, payload: Uint8Array, droppable: boolean, masked: boolean): Outgoing {
    return new Outgoing(opcode, payload, payload.length, true, droppable, masked)
  }

  /** What the frame counts for, in bytes: its length, were it not compressed. */
  get size(): number {
    return frameLength(this.length, this.masked)
  }

  /** How many messages end with it: a streamed one counts once, with its last frame. */
  get messages(): number {
    return this.fin && this.opcode < Opcode.close ? 1 : 0
  }

  /** Appends it to what is encoded. Data is compressed if that pays. */
  encode(encoder: FrameEncoder, deflater: MessageDeflater | undefined): void {
    const { fin, length, opcode, payload } = this
    if (deflater !== undefined && opcode < Opcode.close) {
      const deflated = deflater.deflate(opcode, payload, length, fin)
      // Of a message, the first frame has the bit (RFC 7692, section 6).
      if (deflated !== undefined) {
        return encoder.frame(opcode, deflated, fin, opcode === Opcode.continuation ? 0 : rsv1)
      }
    }
    if (isPrepared(payload) && !this.masked) return encoder.encoded(payload.frame)
    const message = isPrepared(payload) ? payload.message : payload
    if (typeof message === "string") encoder.text(message, length)
    else encoder.frame(opcode, message, fin)
  }
}
