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
  allocate: (size) => {
    makeGarbage(size / 3)
    return Buffer.allocUnsafeSlow(size)
  },
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

// Buffers lie outside V8's heap. After every 64 MiB of them, V8 searches the whole heap for those to free, which takes longer
// the more a program keeps in it. After every 16 MiB of objects, it searches the young ones only, and frees the buffers that
// these know of, too. With a third of garbage beside them, it is always the latter that comes first.
const makeGarbage = (bytes: number): void => {
  for (let words = Math.floor(bytes / 8); words > 0; words -= mostWords) {
    garbage[0] = new Array(Math.min(words, mostWords))
  }
}

const mostWords = 1024
// Kept until the next, lest the compiler leaves out what nobody looks at.
const garbage: Array<Array<undefined>> = []
