/**
 * The text codec of Node's buffers.
 *
 * @since 0.1.0
 */
import { portable, type Utf8Codec } from "@effect-ws/core/protocol/Utf8"
import { Buffer, isUtf8 } from "node:buffer"

/**
 * Measures, validates, encodes and decodes text natively.
 *
 * @category constructors
 * @since 0.1.0
 */
export const codec: Utf8Codec = {
  byteLength: (text) => Buffer.byteLength(text),
  allocate: (size) => Buffer.allocUnsafeSlow(size),
  encodeInto: (text, target, offset) =>
    Buffer.isBuffer(target) ? target.write(text, offset) : portable.encodeInto(text, target, offset),
  isValid: (bytes, start, end) => isUtf8(bytes.subarray(start, end)),
  decode: (bytes, start, end) => {
    const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    const text = buffer.toString(undefined, start, end)
    // Whatever is not UTF-8 becomes U+FFFD, so only a text that has one needs another look.
    return text.includes("\ufffd") && !isUtf8(bytes.subarray(start, end)) ? undefined : text
  }
}
