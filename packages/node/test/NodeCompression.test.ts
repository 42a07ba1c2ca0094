import { NodeCompression } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import { deflateRawSync } from "node:zlib"
import { readDeflate } from "./deflateReader.ts"

const { deflate, inflate } = NodeCompression.compression

const none = new Uint8Array(0)
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text))
const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"))
const concat = (...parts: ReadonlyArray<Uint8Array>) => new Uint8Array(Buffer.concat(parts))

const maxBytes = 1024 * 1024
const usual = { level: 6, windowBits: 15, dictionary: none }
const take = (bytes: Uint8Array, dictionary = none, limit = maxBytes) => inflate(bytes, { maxBytes: limit, dictionary })
const textOf = (result: ReturnType<typeof take>) => typeof result === "string" ? result : Buffer.from(result).toString()

const source = bytesOf(readFileSync(import.meta.filename, "utf8"))
// What repeats itself at the same distance over and over.
const periodic = (period: number, length: number) =>
  Uint8Array.from({ length }, (_, i) => Math.imul((i % period) + 1, 0x9e3779b1) >>> 24)

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const anyBytes = Arbitrary.all([
  Arbitrary.array(Arbitrary.schema(between(0, 255)), { maxLength: 200 }),
  Arbitrary.schema(between(1, 200))
]).pipe(
  Arbitrary.map(([bytes, times]) =>
    Uint8Array.from({ length: bytes.length * times }, (_, i) => bytes[i % bytes.length]!)
  )
)

describe("the examples of RFC 7692", () => {
  it("§7.2.3.1: one compressed block", () => {
    assert.deepStrictEqual(deflate(bytesOf("Hello"), usual), hex("f2 48 cd c9 c9 07 00"))
    assert.strictEqual(textOf(take(hex("f2 48 cd c9 c9 07 00"))), "Hello")
  })

  it("§7.2.3.2: the same again, sharing the window", () => {
    assert.deepStrictEqual(deflate(bytesOf("Hello"), { ...usual, dictionary: bytesOf("Hello") }), hex("f2 00 11 00 00"))
    assert.strictEqual(textOf(take(hex("f2 00 11 00 00"), bytesOf("Hello"))), "Hello")
    assert.strictEqual(take(hex("f2 00 11 00 00")), "Invalid")
  })

  it("§7.2.3.3: a block with no compression", () => {
    assert.strictEqual(textOf(take(hex("00 05 00 fa ff 48 65 6c 6c 6f 00"))), "Hello")
  })

  it("§7.2.3.4: a block with BFINAL set", () => {
    assert.strictEqual(textOf(take(hex("f3 48 cd c9 c9 07 00 00"))), "Hello")
  })

  it("§7.2.3.5: two blocks", () => {
    assert.strictEqual(textOf(take(hex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00"))), "Hello")
  })

  it("§7.2.3.6: nothing at all", () => {
    assert.deepStrictEqual(deflate(none, usual), hex("00"))
    assert.deepStrictEqual(take(hex("00")), none)
  })
})

describe("deflate", () => {
  const inputs = { source, period: periodic(300, 5000), far: periodic(8000, 40_000), zeros: new Uint8Array(70_000) }

  for (const [name, input] of Object.entries(inputs)) {
    it.each([8, 9, 10, 11, 12, 13, 14, 15])(`§7.1.2: keeps to a window of 2^%i bytes (${name})`, (windowBits) => {
      for (const level of [1, 6, 9]) {
        for (const dictionary of [none, input.subarray(0, 2 ** windowBits)]) {
          const deflated = deflate(input, { level, windowBits, dictionary })
          const { furthest, output } = readDeflate(concat(deflated, hex("00 00 ff ff")), dictionary)
          assert.deepStrictEqual(output, input)
          assert.isAtMost(furthest, 2 ** windowBits)
          assert.deepStrictEqual(take(deflated, dictionary), input)
        }
      }
    })
  }

  it("makes use of a window where there is one", () => {
    const far = periodic(8000, 40_000)
    const at = (windowBits: number) => deflate(far, { ...usual, windowBits }).length
    assert.isBelow(at(14) * 2, at(12))
  })

  it.prop("§7.2: what is deflated inflates to what it was", {
    bytes: anyBytes,
    before: anyBytes,
    windowBits: between(8, 15),
    level: between(1, 9)
  }, ({ before, bytes, level, windowBits }) => {
    const dictionary = before.slice(-(2 ** windowBits))
    assert.deepStrictEqual(take(deflate(bytes, { level, windowBits, dictionary }), dictionary), bytes)
  }, { arbitrary: { runs: 300, size: 20 } })
})

describe("inflate", () => {
  const final = (bytes: Uint8Array) => new Uint8Array(deflateRawSync(bytes))

  it("gives a plain array of its own, with nothing else in its memory", () => {
    for (const length of [0, 1, 1000, 20_000, 100_000]) {
      const inflated = take(deflate(periodic(251, length), usual))
      assert(inflated instanceof Uint8Array)
      assert.strictEqual(Object.getPrototypeOf(inflated), Uint8Array.prototype)
      assert.strictEqual(inflated.buffer.byteLength, length)
    }
  })

  it("stops at the limit, and not before", () => {
    for (const input of [source, new Uint8Array(maxBytes), periodic(251, 70_000), none]) {
      const deflated = deflate(input, usual)
      assert.deepStrictEqual(take(deflated, none, input.length), input)
      assert.deepStrictEqual(take(deflated, none, Infinity), input)
      for (const limit of [0, 1, input.length - 1]) {
        if (limit >= 0 && limit < input.length) assert.strictEqual(take(deflated, none, limit), "TooBig")
      }
    }
  })

  it("§7.2.1: goes on behind a final block, with the same window", () => {
    const first = final(source)
    // Twice the same, the second by reference to the first.
    const second = deflate(source, { ...usual, dictionary: source.slice(-32 * 1024) })
    assert.isBelow(second.length, 200)
    assert.deepStrictEqual(take(concat(first, second)), concat(source, source))
    assert.strictEqual(take(concat(first, second), none, source.length * 2 - 1), "TooBig")
  })

  it("does not go on behind final blocks for ever", () => {
    const blocks = (count: number) => concat(Buffer.alloc(count * 2, hex("03 00")), hex("00"))
    assert.deepStrictEqual(take(blocks(100)), none)
    assert.strictEqual(take(blocks(maxBytes / 2)), "Invalid")
  })

  it("refuses a message that is not whole, wherever it is cut", () => {
    const deflated = deflate(source.subarray(0, 600), usual)
    for (let length = 0; length < deflated.length; length++) {
      assert.strictEqual(take(deflated.subarray(0, length)), "Invalid", `cut after ${length}`)
    }
  })

  it("refuses what is not DEFLATE", () => {
    for (const garbage of ["ff", "06", "07 ff 00", "00 00", "00 05 00 00 00 48", "ed fd 01", "f3 48 cd c9 c9 07 00"]) {
      assert.strictEqual(take(hex(garbage)), "Invalid", garbage)
    }
  })

  it("§7.1.2: refuses a reference to before the window", () => {
    const dictionary = periodic(600, 600)
    const deflated = deflate(dictionary.slice(0, 100), { ...usual, dictionary })
    assert.deepStrictEqual(take(deflated, dictionary), dictionary.slice(0, 100))
    assert.strictEqual(take(deflated, dictionary.slice(-512)), "Invalid")
  })

  const deflated = deflate(source, usual)

  it.prop("whatever arrives, takes no more than the limit and does not throw", {
    bytes: Arbitrary.array(Arbitrary.schema(between(0, 255)), { maxLength: 100 }),
    cut: between(0, 2000),
    limit: between(0, 5000)
  }, ({ bytes, cut, limit }) => {
    const damaged = concat(deflated.subarray(0, cut), Uint8Array.from(bytes))
    for (const input of [Uint8Array.from(bytes), damaged]) {
      const result = take(input, none, limit)
      if (typeof result !== "string") assert.isAtMost(result.length, limit)
    }
  }, { arbitrary: { runs: 500 } })
})
