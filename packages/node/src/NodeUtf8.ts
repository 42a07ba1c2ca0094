/**
 * The text codec of Node's buffers.
 *
 * @since 0.1.0
 */
import type { Utf8Codec } from "@effect-ws/core/protocol/Utf8"
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
    makeGarbage(size * 3 / 8)
    return Buffer.allocUnsafeSlow(size)
  },
  encodeInto: (text, target, offset) => utf8Write.call(target, text, offset),
  isValid: (bytes, start, end) => isUtf8(bytes.subarray(start, end)),
  decode: (bytes, start, end, isAscii) => {
    if (isAscii) return latin1Slice.call(bytes, start, end)
    const text = utf8Slice.call(bytes, start, end)
    // Whatever is not UTF-8 becomes U+FFFD, so only a text that has one needs another look.
    return text.includes("\ufffd") && !isUtf8(bytes.subarray(start, end)) ? undefined : text
  }
}

// What `toString` and `write` of a buffer come to once they have looked at what they were given. Node does not document these,
// which take any array of bytes.
const undocumented = Buffer.prototype as {
  readonly latin1Slice?: (this: Uint8Array, start: number, end: number) => string
  readonly utf8Slice?: (this: Uint8Array, start: number, end: number) => string
  readonly utf8Write?: (this: Uint8Array, text: string, offset: number) => number
}
const latin1Slice = undocumented.latin1Slice ?? function(start, end) {
  return toBuffer(this).toString("latin1", start, end)
}
const utf8Slice = undocumented.utf8Slice ?? function(start, end) {
  return toBuffer(this).toString("utf8", start, end)
}
const utf8Write = undocumented.utf8Write ?? function(text, offset) {
  return toBuffer(this).write(text, offset)
}
const toBuffer = ({ buffer, byteOffset, length }: Uint8Array): Buffer => Buffer.from(buffer, byteOffset, length)

// Buffers lie outside V8's heap. After every 64 MiB of them, V8 searches the whole heap for those to free, which takes longer
// the more a program keeps in it. After every 16 MiB of objects, it searches the young ones only, and frees the buffers that
// these know of, too. With three eighths of garbage beside them, it is the latter that comes first.
const makeGarbage = (bytes: number): void => {
  for (let words = Math.floor(bytes / 8); words > 0; words -= mostWords) {
    garbage[0] = new Array(Math.min(words, mostWords))
  }
}

const mostWords = 1024
// Kept until the next, lest the compiler leaves out what nobody looks at.
const garbage: Array<Array<undefined>> = []
