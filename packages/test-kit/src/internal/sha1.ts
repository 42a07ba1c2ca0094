/**
 * SHA-1 (RFC 3174), which the handshake wants as a plain function; the platforms have it only as a promise.
 *
 * @since 0.1.0
 */
import * as Base64 from "effect/encoding/Base64"

const rotate = (word: number, bits: number): number => (word << bits) | (word >>> (32 - bits))

const mix = (round: number, b: number, c: number, d: number): number => {
  if (round < 20) return ((b & c) | (~b & d)) + 0x5a827999
  if (round < 40) return (b ^ c ^ d) + 0x6ed9eba1
  if (round < 60) return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
  return (b ^ c ^ d) + 0xca62c1d6
}

export const sha1 = (text: string): string => {
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0))
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64)
  padded.set(bytes)
  padded[bytes.length] = 0x80
  const view = new DataView(padded.buffer)
  view.setUint32(padded.length - 4, bytes.length * 8)
  const hash = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0)
  const words = new Int32Array(80)
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 16; i++) words[i] = view.getInt32(at + i * 4)
    for (let i = 16; i < 80; i++) {
      words[i] = rotate(words[i - 3]! ^ words[i - 8]! ^ words[i - 14]! ^ words[i - 16]!, 1)
    }
    let [a, b, c, d, e] = hash as unknown as [number, number, number, number, number]
    for (let i = 0; i < 80; i++) {
      const next = (rotate(a, 5) + mix(i, b, c, d) + e + words[i]!) | 0
      e = d
      d = c
      c = rotate(b, 30)
      b = a
      a = next
    }
    for (const [i, word] of [a, b, c, d, e].entries()) hash[i]! += word
  }
  const digest = new DataView(new ArrayBuffer(20))
  for (const [i, word] of hash.entries()) digest.setInt32(i * 4, word)
  return Base64.encode(new Uint8Array(digest.buffer))
}
