import * as Mask from "@effect-ws/core/protocol/Mask"
import { pattern } from "@effect-ws/test-kit/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { vi } from "vitest"
import wabt from "wabt"
import { between } from "./chunks.ts"

setFlagsFromString("--expose-gc")
const collectGarbage: () => void = runInNewContext("gc")

const Key = Schema.Union([between(-0x8000_0000, 0x7fff_ffff), Schema.Literals([0, 1, -1, 0x80, -0x8000_0000])])

// A stretch of bytes somewhere in a buffer, long enough to be masked by words or short enough not to be.
const Place = {
  isRead: Schema.Boolean,
  offset: between(0, 9),
  before: between(0, 9),
  length: between(0, 200),
  after: between(0, 9)
}

const arrange = (
  place: { readonly isRead: boolean; offset: number; before: number; length: number; after: number }
) => {
  const size = place.before + place.length + place.after
  const memory = place.isRead ? Mask.readBuffer() : new Uint8Array(place.offset + size)
  const bytes = memory.subarray(place.offset, place.offset + size)
  bytes.set(pattern(size))
  return { bytes, start: place.before, end: place.before + place.length }
}

// Section 5.3, to the letter: octet i is XORed with octet i modulo 4 of the key.
const byTheLetter = (bytes: Uint8Array, start: number, end: number, key: number, phase: number): Uint8Array =>
  bytes.map((byte, i) => {
    const octet = (key >>> (8 * (3 - ((phase + i - start) & 3)))) & 0xff
    return i >= start && i < end ? byte ^ octet : byte
  })

describe("Mask", () => {
  it("§5.7: masks as the RFC's example", () => {
    const bytes = new TextEncoder().encode("Hello")
    Mask.apply(bytes, 0, 5, 0x37fa213d, 0)
    assert.deepStrictEqual(bytes, Uint8Array.of(0x7f, 0x9f, 0x4d, 0x51, 0x58))
  })

  it.prop("§5.3: masks what it is told to and nothing around it, at any alignment, key and phase", {
    ...Place,
    key: Key,
    phase: between(0, 3)
  }, ({ key, phase, ...place }) => {
    const { bytes, end, start } = arrange(place)
    const expected = byTheLetter(bytes, start, end, key, phase)
    Mask.apply(bytes, start, end, key, phase)
    assert.deepStrictEqual(bytes, expected)
  }, { arbitrary: { runs: 2000 } })

  it.prop("§5.3: masking twice is not masking", { ...Place, key: Key, phase: between(0, 3) }, (
    { key, phase, ...place }
  ) => {
    const { bytes, end, start } = arrange(place)
    const before = bytes.slice()
    Mask.apply(bytes, start, end, key, phase)
    Mask.apply(bytes, start, end, key, phase)
    assert.deepStrictEqual(bytes, before)
  }, { arbitrary: { runs: 500 } })

  it.prop("§5.3: masking in two pieces is masking at once", {
    ...Place,
    key: Key,
    phase: between(0, 3),
    cut: between(0, 200)
  }, ({ cut, key, phase, ...place }) => {
    const { bytes, end, start } = arrange(place)
    const pieces = bytes.slice()
    const middle = Math.min(start + cut, end)
    Mask.apply(bytes, start, end, key, phase)
    Mask.apply(pieces, start, middle, key, phase)
    Mask.apply(pieces, middle, end, key, (phase + middle - start) & 3)
    assert.deepStrictEqual(pieces, bytes)
  }, { arbitrary: { runs: 2000 } })

  it.prop("§5.3: tells of ASCII only where there is nothing else, and of all of it in the read buffer", {
    ...Place,
    key: Key,
    other: between(0, 400)
  }, ({ key, other, ...place }) => {
    const { bytes, end, start } = arrange(place)
    bytes.fill(0x7f)
    const isAscii = start + other >= end
    if (!isAscii) bytes[start + other] = 0x80
    // What is not masked may be anything.
    bytes.fill(0xff, 0, start).fill(0xff, end)
    Mask.apply(bytes, start, end, key, 0)
    assert.strictEqual(Mask.apply(bytes, start, end, key, 0), isAscii && place.isRead && key !== 0)
  }, { arbitrary: { runs: 2000 } })

  it("§5.3: masks the read buffer up to its last byte, and no further", () => {
    const bytes = Mask.readBuffer().fill(0)
    Mask.apply(bytes, 3, bytes.length, 0x01020304, 1)
    assert.deepStrictEqual(bytes, byTheLetter(new Uint8Array(bytes.length), 3, bytes.length, 0x01020304, 1))
  })

  it.live("§5.3: masks the read buffer also where there is no WebAssembly", () =>
    Effect.gen(function*() {
      vi.resetModules()
      const Fresh = yield* Effect.promise(() => import("@effect-ws/core/protocol/Mask"))
      vi.stubGlobal("WebAssembly", undefined)
      const bytes = Fresh.readBuffer()
      vi.unstubAllGlobals()
      // With SIMD, it would know that all of it is ASCII.
      assert.isFalse(Fresh.apply(bytes, 3, bytes.length, 0x01020304, 1))
      assert.strictEqual(bytes.length, Mask.readBuffer().length)
      assert.deepStrictEqual(bytes, byTheLetter(new Uint8Array(bytes.length), 3, bytes.length, 0x01020304, 1))
    }))

  it.live("the module that masks is what its source assembles to", () =>
    Effect.gen(function*() {
      const source = (name: string) => readFileSync(new URL(`../../src/protocol/${name}`, import.meta.url), "utf8")
      const { parseWat } = yield* Effect.promise(() => wabt())
      const { buffer } = parseWat("mask.wat", source("mask.wat"), { simd: true }).toBinary({})
      assert.include(source("Mask.ts"), `"${Buffer.from(buffer).toString("base64")}"`)
    }))

  it("§5.3: masks behind two gibibytes", () => {
    const bytes = new Uint8Array(new ArrayBuffer(2 ** 31 + 64), 2 ** 31)
    Mask.apply(bytes, 0, 64, 0x01020304, 0)
    assert.deepStrictEqual(bytes, byTheLetter(new Uint8Array(64), 0, 64, 0x01020304, 0))
  })

  it.live("keeps no message alive of which it has masked a part", () =>
    Effect.gen(function*() {
      const messages = [new Uint8Array(100 * 1024)]
      const collected = new WeakRef(messages[0]!.buffer)
      // What a reference was made to is not collected in the same turn.
      yield* Effect.sleep(1)
      const mask = () => Mask.apply(messages.pop()!.subarray(0, 1000), 0, 1000, 1, 0)
      mask()
      collectGarbage()
      assert.isUndefined(collected.deref())
    }))

  describe("keysFrom", () => {
    // Randomness in which every word is another.
    const source = () => {
      const sizes: Array<number> = []
      let word = 0
      const fill = (bytes: Uint8Array) => {
        sizes.push(bytes.length)
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
        for (let at = 0; at + 4 <= bytes.length; at += 4) view.setInt32(at, word++)
      }
      return { fill, sizes }
    }

    it("§5.3: asks for randomness when it needs some, 1 KiB at a time", () => {
      const { fill, sizes } = source()
      const nextKey = Mask.keysFrom(fill)
      assert.deepStrictEqual(sizes, [])
      for (let i = 0; i < 256; i++) nextKey()
      assert.deepStrictEqual(sizes, [1024])
      nextKey()
      assert.deepStrictEqual(sizes, [1024, 1024])
    })

    it("§5.3: no two keys come from the same randomness, and none of it is skipped", () => {
      const { fill } = source()
      const nextKey = Mask.keysFrom(fill)
      const keys = new Set(Array.from({ length: 5 * 256 }, nextKey))
      assert.strictEqual(keys.size, 5 * 256)
    })

    it("§5.3: two sources of keys share nothing", () => {
      const one = source()
      const other = source()
      const nextKey = Mask.keysFrom(one.fill)
      const nextOther = Mask.keysFrom(other.fill)
      for (let i = 0; i < 600; i++) assert.strictEqual(nextKey(), nextOther())
    })
  })
})
