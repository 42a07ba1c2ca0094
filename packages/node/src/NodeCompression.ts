/**
 * DEFLATE by Node's zlib.
 *
 * @since 0.1.0
 */
import type { Compression } from "@effect-ws/core/Compression"
import { constants } from "node:buffer"
import { constants as zlib, deflateRawSync, inflateRawSync } from "node:zlib"

const tailLength = 4
// The end of a message that RFC 7692, section 7.2.1, leaves out, and a final block behind it: zlib then tells a message that
// is not complete from one that is.
const ending = Uint8Array.of(0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff)
const windowBytes = 32 * 1024
// Section 7.2.3.4 lets a message hold several final blocks. Each begins a new zlib stream, which costs more than it
// brings, so there may not be many of them.
const maxStreams = 256

/**
 * Compresses and decompresses synchronously, one message at a time.
 *
 * **Details**
 *
 * zlib's state exists only during a call, made to the measure of the message, so that a connection holds none. What is
 * inflated is counted while it is.
 *
 * A window of 256 bytes (`windowBits` 8) is compressed with one of 512, since zlib knows no smaller one here: it leaves
 * 262 bytes of a window unused, so that no reference goes back more than 250.
 *
 * @category constructors
 * @since 0.1.0
 */
export const compression: Compression = {
  deflate: (bytes, { dictionary, level, windowBits }) => {
    // Powers of two: what would hold all of the message and the dictionary, with what zlib leaves unused.
    const needed = Math.ceil(Math.log2(bytes.length + dictionary.length + 262))
    const deflated = deflateRawSync(bytes, {
      level,
      windowBits: Math.max(9, Math.min(windowBits, needed)),
      memLevel: Math.max(1, Math.min(8, needed - 7)),
      chunkSize: Math.max(256, Math.min(bytes.length, 64 * 1024)),
      finishFlush: zlib.Z_SYNC_FLUSH,
      ...(dictionary.length > 0 && { dictionary })
    })
    return deflated.subarray(0, -tailLength)
  },
  inflate: (bytes, { dictionary, maxBytes }) => {
    const input = Buffer.concat([bytes, ending])
    const outputs: Array<Uint8Array> = []
    let window = dictionary
    let room = maxBytes
    let at = 0
    for (let streams = 0; streams < maxStreams; streams++) {
      const result = inflateStream(input.subarray(at), window, room)
      if (typeof result === "string") return result
      outputs.push(result.output)
      at += result.consumed
      if (at === input.length) return own(outputs.length === 1 ? outputs[0]! : Buffer.concat(outputs))
      room -= result.output.length
      window = Buffer.concat([window, result.output]).subarray(-windowBytes)
    }
    return "Invalid"
  }
}

// Inflates to the next final block, and tells how far that is.
const inflateStream = (
  input: Uint8Array,
  dictionary: Uint8Array,
  maxBytes: number
): { readonly output: Uint8Array; readonly consumed: number } | "Invalid" | "TooBig" => {
  try {
    // With `info`, there is more than the types tell.
    const { buffer, engine } = inflateRawSync(input, {
      info: true,
      // Zero is not a limit that zlib takes, nor is one that no array reaches.
      maxOutputLength: Math.max(1, Math.min(maxBytes, constants.MAX_LENGTH)),
      chunkSize: Math.max(1024, Math.min(input.length * 8, maxBytes + 1, 64 * 1024)),
      ...(dictionary.length > 0 && { dictionary })
    }) as unknown as { readonly buffer: Buffer; readonly engine: { readonly bytesWritten: number } }
    if (buffer.length > maxBytes) return "TooBig"
    return { output: buffer, consumed: engine.bytesWritten }
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE" ? "TooBig" : "Invalid"
  }
}

// A plain array, as a message is one; and no part of a buffer, which may hold what others had there before.
const own = ({ buffer, byteOffset, length }: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(buffer, byteOffset, length)
  return length === buffer.byteLength ? bytes : bytes.slice()
}
