import { portable, type Utf8Codec } from "@effect-ws/core/protocol/Utf8"
import { codec } from "@effect-ws/node/NodeUtf8"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as NodeBuffer from "node:buffer"
import { vi } from "vitest"

const encoder = new TextEncoder()
const offset = 3

const assertEncodes = ({ byteLength, encodeInto }: Utf8Codec, text: string) => {
  const expected = encoder.encode(text)
  const target = new Uint8Array(offset + expected.length + 1)
  assert.strictEqual(byteLength(text), expected.length)
  assert.strictEqual(encodeInto(text, target, offset), expected.length)
  assert.deepStrictEqual(target, Uint8Array.of(0, 0, 0, ...expected, 0))
}

const assertDecodes = ({ decode }: Utf8Codec, bytes: Uint8Array) => {
  const around = Uint8Array.of(0xff, 0xff, 0xff, ...bytes, 0xff)
  const end = offset + bytes.length
  const text = portable.decode(bytes, 0, bytes.length)
  assert.strictEqual(decode(around, offset, end), text)
  // A view that does not begin where its memory does.
  assert.strictEqual(decode(around.subarray(offset), 0, bytes.length), text)
  if (bytes.every((byte) => byte < 0x80)) assert.strictEqual(decode(around, offset, end, true), text)
}

const texts = ["", "a", "é", "\ufeff€", "\ufffd", "\ud800", "😀", "a".repeat(200), `${"a".repeat(200)}😀`]
const invalid = [[0xff], [0xc3], [0x61, 0x80], [0xef, 0xbf, 0xbd, 0x80], [0xed, 0xa0, 0x80], [0xf0, 0x9f, 0x98]]

describe("NodeUtf8", () => {
  it.prop(
    "§5.6: encodes any string as TextEncoder does, a lone surrogate included",
    { text: Schema.String },
    ({ text }) => {
      assertEncodes(codec, text)
    }
  )

  it.prop("§8.1: decodes what the portable codec does, and nothing else", { bytes: Schema.Uint8Array }, ({ bytes }) => {
    assertDecodes(codec, bytes)
  }, { arbitrary: { runs: 1000 } })

  it("§8.1: decodes texts, and no broken ones, also what stands for those", () => {
    for (const text of texts) {
      assertEncodes(codec, text)
      assertDecodes(codec, encoder.encode(text))
    }
    for (const bytes of invalid) assertDecodes(codec, Uint8Array.from(bytes))
  })

  it.live("does so, too, where buffers have no more than is documented", () =>
    Effect.gen(function*() {
      const { Buffer } = NodeBuffer
      vi.resetModules()
      vi.doMock("node:buffer", () => ({
        ...NodeBuffer,
        Buffer: Object.defineProperty(
          Object.assign(() => {}, { from: Buffer.from, byteLength: Buffer.byteLength }),
          "prototype",
          {
            value: {}
          }
        )
      }))
      const { codec: documented } = yield* Effect.promise(() => import("@effect-ws/node/NodeUtf8"))
      vi.doUnmock("node:buffer")
      for (const text of texts) {
        assertEncodes(documented, text)
        assertDecodes(documented, encoder.encode(text))
      }
      for (const bytes of invalid) assertDecodes(documented, Uint8Array.from(bytes))
    }))
})
