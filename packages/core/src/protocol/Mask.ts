/**
 * Masking of client frames (RFC 6455, section 5.3).
 *
 * @since 0.1.0
 */

// Below this length, setting up word-wise views costs more than it saves.
const wordwiseThreshold = 48

const littleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1

/**
 * XORs `bytes[start, end)` in place with a masking key, whose octet `phase` applies to the first byte.
 *
 * **Details**
 *
 * `key` holds the four octets of the masking key in network order: octet 0 in the most significant byte. Masking is its
 * own inverse; the phase of the byte at `end` is `(phase + end - start) & 3`. Tells whether all that comes out is known to be
 * ASCII: with SIMD, that costs nothing to find out.
 *
 * @category masking
 * @since 0.1.0
 */
export const apply = (bytes: Uint8Array, start: number, end: number, key: number, phase: number): boolean => {
  if (key === 0) return false
  if (simd !== undefined && (bytes === latestRead || isInReadBuffer(bytes))) {
    const { byteOffset } = bytes
    return simd.mask(byteOffset + start, byteOffset + end, littleEndianWord(key, phase & 3)) === 1
  }
  let i = start
  if (littleEndian && end - start >= wordwiseThreshold) {
    while (((bytes.byteOffset + i) & 3) !== 0) {
      bytes[i]! ^= key >>> (24 - ((phase & 3) << 3))
      phase++
      i++
    }
    const words = wordsOf(bytes)
    const word = littleEndianWord(key, phase & 3)
    let w = (bytes.byteOffset + i - words.byteOffset) >>> 2
    const last = w + ((end - i) >>> 2)
    i += (last - w) << 2
    // Eight at a time are a third faster.
    for (; w <= last - 8; w += 8) {
      words[w]! ^= word
      words[w + 1]! ^= word
      words[w + 2]! ^= word
      words[w + 3]! ^= word
      words[w + 4]! ^= word
      words[w + 5]! ^= word
      words[w + 6]! ^= word
      words[w + 7]! ^= word
    }
    for (; w < last; w++) words[w]! ^= word
  }
  for (; i < end; i++) {
    bytes[i]! ^= key >>> (24 - ((phase & 3) << 3))
    phase++
  }
  return false
}

// To view bytes as words costs as much as to mask 200 of them, and many small frames lie in the same bytes. What is kept so is
// a chunk or a slab, no large message.
const readBufferBytes = 128 * 1024
const largestSlab = 64 * 1024
let latest: Uint8Array = new Uint8Array(0)
let latestWords: Int32Array = new Int32Array(0)

const wordsOf = (bytes: Uint8Array): Int32Array => {
  if (bytes === latest) return latestWords
  const skipped = -bytes.byteOffset & 3
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + skipped, Math.floor((bytes.length - skipped) / 4))
  if (bytes.buffer === readMemory || bytes.buffer.byteLength <= largestSlab) {
    latest = bytes
    latestWords = words
  }
  return words
}

// The key rotated to `phase`, as the machine word whose lowest-addressed byte is octet `phase` of the key.
const littleEndianWord = (key: number, phase: number): number => {
  const rotated = phase === 0 ? key : (key << (phase << 3)) | (key >>> (32 - (phase << 3)))
  return ((rotated & 0xff) << 24) | ((rotated & 0xff00) << 8) | ((rotated >>> 8) & 0xff00) | (rotated >>> 24)
}

/**
 * The bytes that transports read into, always the same 128 KiB: `apply` is five times as fast in them as in others.
 *
 * **Details**
 *
 * They are the memory of a WebAssembly module that masks 16 bytes at a time. Where that is not to be had, they are bytes like
 * others.
 *
 * **Gotchas**
 *
 * Whoever reads into them lends what it has read, and may read again once it has been given back. All others do so, too: no read
 * into them may be under way meanwhile.
 *
 * @category masking
 * @since 0.1.0
 */
export const readBuffer = (): Uint8Array<ArrayBuffer> => {
  readMemory ??= (simd = instantiate())?.memory.buffer ?? new ArrayBuffer(readBufferBytes)
  return new Uint8Array(readMemory)
}

interface Simd {
  readonly memory: { readonly buffer: ArrayBuffer }
  readonly mask: (start: number, end: number, littleEndianKey: number) => 0 | 1
}

let readMemory: ArrayBuffer | undefined
let simd: Simd | undefined
let latestRead: Uint8Array | undefined

const isInReadBuffer = (bytes: Uint8Array): boolean => {
  if (bytes.buffer !== readMemory) return false
  latestRead = bytes
  return true
}

// A runtime may have no WebAssembly, or not let a program compile any, or have no address space to spare for its memory.
const instantiate = (): Simd | undefined => {
  try {
    const binary = Uint8Array.from(atob(mask), (char) => char.charCodeAt(0))
    return new WebAssembly.Instance(new WebAssembly.Module(binary)).exports as unknown as Simd
  } catch {
    return undefined
  }
}

// What mask.wat assembles to, in Base64.
const mask =
  "AGFzbQEAAAABCAFgA39/fwF/AwIBAAUEAQECAgcRAgZtZW1vcnkCAARtYXNrAAAKmQEBlgECBHsCfyAC/REhAwNAIABBIGogAU0EQCAAIAD9AAQAIAP9USIE/QsEACAAIAD9AAQQIAP9USIF/QsEECAGIAQgBf1Q/VAhBiAAQSBqIQAMAQsLA0AgACABSQRAIAAtAAAgAkH/AXFzIQcgACAHOgAAIAggB3IhCCACQQh4IQIgAEEBaiEADAELCyAG/WQgCEGAAXFyRQs="

/**
 * Makes a source of masking keys over a source of strong randomness.
 *
 * **Details**
 *
 * Section 5.3 wants each key to be unpredictable, so `fill` has to write cryptographically strong random bytes. It is
 * asked for 1 KiB at a time: a call for every frame would cost more than the masking.
 *
 * @category constructors
 * @since 0.1.0
 */
export const keysFrom = (fill: (bytes: Uint8Array) => void): () => number => {
  let pool: Int32Array | undefined
  let next = 0
  return () => {
    if (pool === undefined || next === pool.length) {
      pool ??= new Int32Array(256)
      fill(new Uint8Array(pool.buffer))
      next = 0
    }
    return pool[next++]!
  }
}
