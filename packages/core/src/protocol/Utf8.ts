/**
 * UTF-8 as RFC 6455 wants it checked (section 8.1, RFC 3629): incrementally, and failing at the first bad byte.
 *
 * @since 0.1.0
 */

/**
 * The state of a validator between two pieces of one text: {@link accept} at a character boundary, {@link reject} after a
 * byte that no valid text continues with, anything else inside a character.
 *
 * @category models
 * @since 0.1.0
 */
export type State = number

/**
 * The state at a character boundary, where a text may begin and end.
 *
 * @category constants
 * @since 0.1.0
 */
export const accept: State = 0

/**
 * The state after a bad byte; no input leaves it.
 *
 * @category constants
 * @since 0.1.0
 */
export const reject: State = 1

// The states inside a character, named by the continuation bytes that may follow. The special ranges shut out
// overlong forms, UTF-16 surrogates and code points above U+10FFFF (RFC 3629, section 4).
const one = 2 // 80-BF
const two = 3 // 80-BF 80-BF
const three = 4 // 80-BF 80-BF 80-BF
const afterE0 = 5 // A0-BF 80-BF
const afterED = 6 // 80-9F 80-BF
const afterF0 = 7 // 90-BF 80-BF 80-BF
const afterF4 = 8 // 80-8F 80-BF 80-BF

const lead = (byte: number): State => {
  if (byte < 0x80) return accept
  if (byte < 0xc2) return reject
  if (byte < 0xe0) return one
  if (byte === 0xe0) return afterE0
  if (byte === 0xed) return afterED
  if (byte < 0xf0) return two
  if (byte === 0xf0) return afterF0
  if (byte < 0xf4) return three
  return byte === 0xf4 ? afterF4 : reject
}

const continuation = (state: State, byte: number): State => {
  switch (state) {
    case one:
      return byte >= 0x80 && byte <= 0xbf ? accept : reject
    case two:
      return byte >= 0x80 && byte <= 0xbf ? one : reject
    case three:
      return byte >= 0x80 && byte <= 0xbf ? two : reject
    case afterE0:
      return byte >= 0xa0 && byte <= 0xbf ? one : reject
    case afterED:
      return byte >= 0x80 && byte <= 0x9f ? one : reject
    case afterF0:
      return byte >= 0x90 && byte <= 0xbf ? two : reject
    case afterF4:
      return byte >= 0x80 && byte <= 0x8f ? two : reject
    default:
      return reject
  }
}

/**
 * Continues a validation over `bytes[start, end)`.
 *
 * @category validation
 * @since 0.1.0
 */
export const validate = (state: State, bytes: Uint8Array, start: number, end: number): State => {
  let i = start
  while (i < end) {
    const byte = bytes[i++]!
    if (state === accept) {
      if (byte >= 0x80) state = lead(byte)
    } else {
      state = continuation(state, byte)
    }
    if (state === reject) return reject
  }
  return state
}

// Below this length, asking the platform costs more than looking at each byte.
const nativeThreshold = 64

/**
 * Continues a validation over `bytes[start, end)` as {@link validate} does, leaving the whole characters of a long piece to
 * the platform.
 *
 * @category validation
 * @since 0.1.0
 */
export const validateWith = (
  utf8: Utf8Codec,
  state: State,
  bytes: Uint8Array,
  start: number,
  end: number
): State => {
  if (end - start < nativeThreshold) return validate(state, bytes, start, end)
  let first = start
  while (state !== accept && state !== reject && first < end) state = validate(state, bytes, first, ++first)
  if (state === reject) return reject
  // The last character may go on in the next piece: it begins with the last byte that is no continuation.
  let last = end - 1
  while (last > end - 4 && isContinuation(bytes[last]!)) last--
  return utf8.isValid(bytes, first, last) ? validate(accept, bytes, last, end) : reject
}

const isContinuation = (byte: number): boolean => (byte & 0xc0) === 0x80

/**
 * How text becomes bytes and bytes become text: the contract behind which a platform offers its fast paths.
 *
 * **Details**
 *
 * - `byteLength` is the length of the text's encoding, in bytes.
 * - `allocate` makes an array with any content: the caller fills it. `encodeInto` writes to it fast.
 * - `encodeInto` writes the encoding of a text at `offset` and returns its length; the caller has made room for it.
 * - `isValid` tells whether `bytes[start, end)` are UTF-8.
 * - `decode` returns the text of `bytes[start, end)`, a byte-order mark included, or `undefined` if they are not UTF-8. They
 *   need no validation if they are known to be ASCII.
 *
 * A lone surrogate in a string is encoded as U+FFFD.
 *
 * @category models
 * @since 0.1.0
 */
export interface Utf8Codec {
  readonly byteLength: (text: string) => number
  readonly allocate: (size: number) => Uint8Array
  readonly encodeInto: (text: string, target: Uint8Array, offset: number) => number
  readonly isValid: (bytes: Uint8Array, start: number, end: number) => boolean
  readonly decode: (bytes: Uint8Array, start: number, end: number, isAscii?: boolean) => string | undefined
}

const encoder = new TextEncoder()
// Without `ignoreBOM`, the decoder would drop a byte-order mark that belongs to the message.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/**
 * The codec that works wherever `TextEncoder` and `TextDecoder` do.
 *
 * @category constructors
 * @since 0.1.0
 */
export const portable: Utf8Codec = {
  byteLength: (text) => {
    let length = text.length
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i)
      if (unit < 0x80) continue
      if (unit < 0x800) {
        length += 1
        continue
      }
      length += 2
      // The four bytes of a surrogate pair: two for each of its two units.
      if (unit >= 0xd800 && unit <= 0xdbff) {
        const next = text.charCodeAt(i + 1)
        if (next >= 0xdc00 && next <= 0xdfff) i++
      }
    }
    return length
  },
  allocate: (size) => new Uint8Array(size),
  encodeInto: (text, target, offset) =>
    encoder.encodeInto(text, offset === 0 ? target : target.subarray(offset)).written,
  isValid: (bytes, start, end) => validate(accept, bytes, start, end) === accept,
  decode: (bytes, start, end) => {
    // A fatal TextDecoder reports by throwing; so that remote input never throws, it is asked for valid bytes only.
    if (!portable.isValid(bytes, start, end)) return undefined
    return decoder.decode(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end))
  }
}
