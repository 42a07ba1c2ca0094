/**
 * A reader of DEFLATE (RFC 1951) that knows how far back each reference goes. It takes its time, and trusts nobody's zlib.
 */

const lengthBase = [
  3,
  4,
  5,
  6,
  7,
  8,
  9,
  10,
  11,
  13,
  15,
  17,
  19,
  23,
  27,
  31,
  35,
  43,
  51,
  59,
  67,
  83,
  99,
  115,
  131,
  163,
  195,
  227,
  258
]
const lengthExtra = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0]
const distanceBase = [
  1,
  2,
  3,
  4,
  5,
  7,
  9,
  13,
  17,
  25,
  33,
  49,
  65,
  97,
  129,
  193,
  257,
  385,
  513,
  769,
  1025,
  1537,
  2049,
  3073,
  4097,
  6145,
  8193,
  12289,
  16385,
  24577
]
const codeOrder = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

// Codes by their length and value, as one string of both.
type Code = ReadonlyMap<string, number>

// Section 3.2.2: codes of the same length are consecutive, and shorter ones come first.
const codeOf = (lengths: ReadonlyArray<number>): Code => {
  const code = new Map<string, number>()
  let next = 0
  for (let length = 1; length <= 15; length++) {
    lengths.forEach((each, symbol) => {
      if (each === length) code.set(`${length}:${next++}`, symbol)
    })
    next <<= 1
  }
  return code
}

const fixedLiterals = codeOf(Array.from({ length: 288 }, (_, i) => i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8))
const fixedDistances = codeOf(Array.from({ length: 30 }, () => 5))

/** Reads blocks up to the end of the bytes, behind what went before. */
export const readDeflate = (
  bytes: Uint8Array,
  before: Uint8Array = new Uint8Array(0)
): { readonly output: Uint8Array; readonly furthest: number } => {
  const output = [...before]
  let furthest = 0
  let at = 0

  const bits = (count: number): number => {
    let value = 0
    for (let i = 0; i < count; i++, at++) {
      if (at >> 3 >= bytes.length) throw new Error("the bytes end inside a block")
      value |= ((bytes[at >> 3]! >> (at & 7)) & 1) << i
    }
    return value
  }
  const symbol = (code: Code): number => {
    let value = 0
    for (let length = 1; length <= 15; length++) {
      value = (value << 1) | bits(1)
      const found = code.get(`${length}:${value}`)
      if (found !== undefined) return found
    }
    throw new Error("no such code")
  }
  const dynamicCodes = (): readonly [Code, Code] => {
    const literals = bits(5) + 257
    const distances = bits(5) + 1
    const count = bits(4) + 4
    const order = Array.from({ length: 19 }, () => 0)
    for (let i = 0; i < count; i++) order[codeOrder[i]!] = bits(3)
    const code = codeOf(order)
    const lengths: Array<number> = []
    const repeat = (length: number, times: number) => lengths.push(...Array.from({ length: times }, () => length))
    while (lengths.length < literals + distances) {
      const next = symbol(code)
      if (next < 16) lengths.push(next)
      else if (next === 16) repeat(lengths.at(-1)!, 3 + bits(2))
      else if (next === 17) repeat(0, 3 + bits(3))
      else repeat(0, 11 + bits(7))
    }
    return [codeOf(lengths.slice(0, literals)), codeOf(lengths.slice(literals))]
  }
  const compressed = ([literals, distances]: readonly [Code, Code]) => {
    for (let next = symbol(literals); next !== 256; next = symbol(literals)) {
      if (next < 256) {
        output.push(next)
        continue
      }
      const length = lengthBase[next - 257]! + bits(lengthExtra[next - 257]!)
      const code = symbol(distances)
      const distance = distanceBase[code]! + bits(Math.max(0, (code >> 1) - 1))
      if (distance > output.length) throw new Error("a reference to before the beginning")
      furthest = Math.max(furthest, distance)
      for (let i = 0; i < length; i++) output.push(output[output.length - distance]!)
    }
  }
  const stored = () => {
    at = (at + 7) & ~7
    const length = bits(16)
    if ((bits(16) ^ 0xffff) !== length) throw new Error("the length of a stored block is wrong")
    for (let i = 0; i < length; i++) output.push(bits(8))
  }

  while (at < bytes.length * 8) {
    const final = bits(1)
    const type = bits(2)
    if (type === 0) stored()
    else if (type === 1) compressed([fixedLiterals, fixedDistances])
    else if (type === 2) compressed(dynamicCodes())
    else throw new Error("no such type of block")
    if (final === 1) at = (at + 7) & ~7
  }
  return { output: Uint8Array.from(output.slice(before.length)), furthest }
}
