/**
 * The text codec of Node's buffers.
 *
 * @since 0.1.0
 */
import { portable, type Utf8Codec } from "@effect-ws/core/protocol/Utf8"
import { Buffer, isUtf8 } from "node:buffer"

/**
 * Measures, validates and decodes text natively.
 *
 * @category constructors
 * @since 0.1.0
 */
export const codec: Utf8Codec = {
  byteLength: (text) => Buffer.byteLength(text),
  encodeInto: portable.encodeInto,
  decode: (bytes, start, end) => {
    const view = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start)
    return isUtf8(view) ? view.toString() : undefined
  }
}
