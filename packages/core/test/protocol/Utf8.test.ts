import * as Utf8 from "@effect-ws/core/protocol/Utf8"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { isUtf8 } from "node:buffer"
import { between, Cuts, splitAt } from "./chunks.ts"

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const decoded = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

const isValid = (bytes: ReadonlyArray<number>): boolean => decoded(Uint8Array.from(bytes)) !== undefined

// Every way in which a character that has begun may end: the second byte is what the special ranges are about.
const endings = [[], ...[0x80, 0x90, 0xa0].flatMap((second) => [[second], [second, 0x80], [second, 0x80, 0x80]])]

const isBeginning = (bytes: ReadonlyArray<number>): boolean =>
  endings.some((ending) => isUtf8(Uint8Array.from([...bytes, ...ending])))

const stateOf = (bytes: ReadonlyArray<number>): Utf8.State =>
  Utf8.validate(Utf8.accept, Uint8Array.from(bytes), 0, bytes.length)

const assertAgrees = (bytes: ReadonlyArray<number>) => {
  const state = stateOf(bytes)
  const hex = bytes.map((byte) => byte.toString(16)).join(" ")
  assert.strictEqual(state === Utf8.accept, isValid(bytes), hex)
  assert.strictEqual(state !== Utf8.reject, isBeginning(bytes), hex)
}

const CodePoint = Schema.Union([
  Schema.Literals([0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xfeff, 0xffff, 0x10000, 0x10ffff]),
  between(0, 0xd7ff),
  between(0xe000, 0x10ffff)
])
const boundaryUnits = [0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xe000, 0xffff]
const Unit = Schema.Union([between(0, 0xff), between(0, 0xffff), between(0xd800, 0xdfff)])

// Text with a few bytes replaced, most often by bytes that mean something.
const Mutations = Schema.Array(Schema.Struct({
  at: between(0, 0x7fff_ffff),
  byte: Schema.Union([between(0, 255), Schema.Literals([0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc2, 0xed, 0xf4])])
})).check(Schema.isMaxLength(3))

const inPieces = (bytes: Uint8Array, cuts: ReadonlyArray<number>): Utf8.State =>
  splitAt(bytes, cuts).reduce((state, chunk) => Utf8.validate(state, chunk, 0, chunk.length), Utf8.accept)

describe("Utf8", () => {
  describe("validate", () => {
    it("§8.1: agrees with TextDecoder on every sequence of one and two bytes", () => {
      for (let first = 0; first <= 0xff; first++) {
        assertAgrees([first])
        for (let second = 0; second <= 0xff; second++) assertAgrees([first, second])
      }
    })

    it("§8.1: agrees with TextDecoder on every lead and second byte of three and four bytes", () => {
      for (let lead = 0xe0; lead <= 0xff; lead++) {
        for (let second = 0; second <= 0xff; second++) {
          for (const third of [0x7f, 0x80, 0xbf, 0xc0]) assertAgrees([lead, second, third])
          assertAgrees([lead, second, 0x80, 0x80])
          assertAgrees([lead, second, 0xbf, 0xbf])
        }
      }
    })

    it("§8.1: agrees with TextDecoder on every last byte of three and four bytes", () => {
      for (let last = 0; last <= 0xff; last++) {
        assertAgrees([0xe2, 0x82, last])
        assertAgrees([0xf0, 0x9d, last])
        assertAgrees([0xf0, 0x9d, 0x84, last])
      }
    })

    it.prop("§8.1: agrees with TextDecoder on any bytes, however they are cut", {
      bytes: Schema.Uint8Array,
      cuts: Cuts
    }, ({ bytes, cuts }) => {
      assert.strictEqual(inPieces(bytes, cuts) === Utf8.accept, decoded(bytes) !== undefined)
    }, { arbitrary: { runs: 1000 } })

    it.prop("§8.1: agrees with TextDecoder on text with mistakes, however it is cut", {
      points: Schema.Array(CodePoint),
      mutations: Mutations,
      cuts: Cuts
    }, ({ cuts, mutations, points }) => {
      const bytes = encoder.encode(String.fromCodePoint(...points))
      for (const { at, byte } of mutations) if (bytes.length > 0) bytes[at % bytes.length] = byte
      assert.strictEqual(inPieces(bytes, cuts) === Utf8.accept, decoded(bytes) !== undefined)
    }, { arbitrary: { runs: 3000 } })

    it.prop("§8.1: rejects at the first byte that no text goes on with, and not before", {
      points: Schema.Array(CodePoint),
      mutations: Mutations
    }, ({ mutations, points }) => {
      const bytes = encoder.encode(String.fromCodePoint(...points))
      for (const { at, byte } of mutations) if (bytes.length > 0) bytes[at % bytes.length] = byte
      let state = Utf8.accept
      for (let end = 1; end <= bytes.length && state !== Utf8.reject; end++) {
        state = Utf8.validate(state, bytes, end - 1, end)
        assert.strictEqual(state !== Utf8.reject, isBeginning(Array.from(bytes.subarray(0, end))))
      }
    }, { arbitrary: { runs: 500 } })

    it.prop("§8.1: nothing leads out of a rejected text", { bytes: Schema.Uint8Array }, ({ bytes }) => {
      assert.strictEqual(Utf8.validate(Utf8.reject, bytes, 0, bytes.length), Utf8.reject)
    })

    it("§8.1: looks at nothing outside its range", () => {
      assert.strictEqual(Utf8.validate(Utf8.accept, Uint8Array.of(0xff, 0x61, 0xff), 1, 2), Utf8.accept)
      assert.notStrictEqual(Utf8.validate(Utf8.accept, Uint8Array.of(0xe2, 0x82, 0xac), 0, 2), Utf8.accept)
    })
  })

  describe("validateWith", () => {
    it.prop("§8.1: leaves a text where validate leaves it after every piece, long or short", {
      points: Schema.Array(CodePoint),
      times: between(1, 60),
      mutations: Mutations,
      cuts: Cuts
    }, ({ cuts, mutations, points, times }) => {
      const bytes = encoder.encode(String.fromCodePoint(...points).repeat(times))
      for (const { at, byte } of mutations) if (bytes.length > 0) bytes[at % bytes.length] = byte
      let state = Utf8.accept
      let expected = Utf8.accept
      for (const chunk of splitAt(bytes, cuts)) {
        state = Utf8.validateWith(Utf8.portable, state, chunk, 0, chunk.length)
        expected = Utf8.validate(expected, chunk, 0, chunk.length)
        assert.strictEqual(state, expected)
      }
    }, { arbitrary: { runs: 2000 } })

    it("§8.1: finds where the last character of a long piece begins, whole or not", () => {
      const ascii = new Array<number>(100).fill(0x61)
      for (const lead of [0x61, 0xc2, 0xe0, 0xe2, 0xed, 0xf0, 0xf4]) {
        for (const second of [0x7f, 0x80, 0x90, 0xa0, 0xc2]) {
          for (const rest of [[], [0x80], [0x80, 0x80], [0x80, 0x80, 0x80]]) {
            const bytes = Uint8Array.from([...ascii, lead, second, ...rest])
            assert.strictEqual(
              Utf8.validateWith(Utf8.portable, Utf8.accept, bytes, 0, bytes.length),
              Utf8.validate(Utf8.accept, bytes, 0, bytes.length)
            )
          }
        }
      }
    })

    it("§8.1: looks at nothing outside its range", () => {
      const bytes = new Uint8Array(200).fill(0xff)
      bytes.fill(0x61, 50, 150)
      assert.strictEqual(Utf8.validateWith(Utf8.portable, Utf8.accept, bytes, 50, 150), Utf8.accept)
      assert.strictEqual(Utf8.validateWith(Utf8.portable, Utf8.accept, bytes, 50, 151), Utf8.reject)
      assert.strictEqual(Utf8.validateWith(Utf8.portable, Utf8.reject, bytes, 50, 150), Utf8.reject)
    })
  })

  describe("portable", () => {
    it("§5.6: every code unit has the length that TextEncoder gives it, alone and beside any kind of unit", () => {
      for (let unit = 0; unit <= 0xffff; unit++) {
        const text = String.fromCharCode(unit)
        assert.strictEqual(Utf8.portable.byteLength(text), encoder.encode(text).length, unit.toString(16))
      }
      for (const first of boundaryUnits) {
        for (const second of boundaryUnits) {
          const text = String.fromCharCode(first, second)
          assert.strictEqual(Utf8.portable.byteLength(text), encoder.encode(text).length, text)
        }
      }
    })

    it.prop("§5.6: encodes any string as TextEncoder does, a lone surrogate included", {
      units: Schema.Array(Unit),
      offset: between(0, 5)
    }, ({ offset, units }) => {
      const text = String.fromCharCode(...units)
      const expected = encoder.encode(text)
      assert.strictEqual(Utf8.portable.byteLength(text), expected.length)
      const target = new Uint8Array(offset + expected.length + 3).fill(0xaa)
      assert.strictEqual(Utf8.portable.encodeInto(text, target, offset), expected.length)
      assert.deepStrictEqual(target.subarray(offset, offset + expected.length), expected)
      assert.deepStrictEqual(target.subarray(0, offset), new Uint8Array(offset).fill(0xaa))
      assert.deepStrictEqual(target.subarray(-3), new Uint8Array(3).fill(0xaa))
    }, { arbitrary: { runs: 2000 } })

    it.prop("§5.6: decodes any text to itself, a byte-order mark included, from anywhere in a buffer", {
      points: Schema.Array(CodePoint),
      start: between(0, 5)
    }, ({ points, start }) => {
      const text = String.fromCodePoint(...points)
      const encoded = encoder.encode(text)
      const bytes = new Uint8Array(start + encoded.length + 2).fill(0xff)
      bytes.set(encoded, start)
      assert.strictEqual(Utf8.portable.decode(bytes, start, start + encoded.length), text)
      assert.strictEqual(Utf8.portable.decode(encoded, 0, encoded.length), text)
    })

    it.prop("§8.1: decodes nothing else, and does not throw", {
      points: Schema.Array(CodePoint),
      mutations: Mutations
    }, ({ mutations, points }) => {
      const bytes = encoder.encode(String.fromCodePoint(...points))
      for (const { at, byte } of mutations) if (bytes.length > 0) bytes[at % bytes.length] = byte
      assert.strictEqual(Utf8.portable.decode(bytes, 0, bytes.length), decoded(bytes))
      assert.strictEqual(Utf8.portable.isValid(bytes, 0, bytes.length), decoded(bytes) !== undefined)
    }, { arbitrary: { runs: 1000 } })
  })
})
