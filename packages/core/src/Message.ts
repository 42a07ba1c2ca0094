/**
 * What travels over a connection.
 *
 * @since 0.1.0
 */
import { Opcode } from "./protocol/Frame.ts"
import * as FrameEncoder from "./protocol/FrameEncoder.ts"

/**
 * A message: text is a string, binary is bytes (RFC 6455, section 5.6).
 *
 * **Details**
 *
 * Bytes that were received belong to whoever takes them, and are all that their `buffer` holds.
 *
 * **Gotchas**
 *
 * A lone surrogate in a string has no UTF-8 encoding; it is sent as U+FFFD.
 *
 * @category models
 * @since 0.1.0
 */
export type Message = string | Uint8Array

const PreparedTypeId = "~effect-ws/core/Message/Prepared"

/**
 * A message encoded once for many receivers.
 *
 * **When to use**
 *
 * To send the same message over many connections of a server: their frames are equal, so the bytes are shared. See
 * {@link prepare}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Prepared {
  readonly [PreparedTypeId]: typeof PreparedTypeId
  readonly message: Message
  /** The unmasked frame, as a server sends it. */
  readonly frame: Uint8Array
}

const encoder = new TextEncoder()

/**
 * Encodes a message for sending over many connections. Bytes are copied, so the caller may reuse them.
 *
 * @category constructors
 * @since 0.1.0
 */
export const prepare = (message: Message): Prepared => {
  const opcode = typeof message === "string" ? Opcode.text : Opcode.binary
  const payload = typeof message === "string" ? encoder.encode(message) : message
  return {
    [PreparedTypeId]: PreparedTypeId,
    message,
    frame: FrameEncoder.encode({ fin: true, rsv: 0, opcode, payload }, undefined)
  }
}

/**
 * Tells whether a value is a prepared message.
 *
 * @category guards
 * @since 0.1.0
 */
export const isPrepared = (message: Message | Prepared): message is Prepared =>
  typeof message === "object" && PreparedTypeId in message
