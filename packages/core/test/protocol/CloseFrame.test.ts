import { decode, encode, isCloseCode, maxReasonBytes } from "@effect-ws/core/protocol/CloseFrame"
import * as Utf8 from "@effect-ws/core/protocol/Utf8"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { between } from "./chunks.ts"

// Section 7.4.1, and what was registered with IANA since.
const registered = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]

describe("CloseFrame", () => {
  it("§7.4: exactly the registered codes and those for libraries and applications may travel", () => {
    for (let code = 0; code <= 0xffff; code++) {
      assert.strictEqual(isCloseCode(code), registered.includes(code) || (code >= 3000 && code <= 4999), String(code))
    }
  })

  it.each([-1, 0.5, 1000.5, 65_536, 66_536, 2 ** 32 + 1000, Infinity, -Infinity, NaN])(
    "§5.5.1: %d is not a 2-byte unsigned integer",
    (code) => assert.isFalse(isCloseCode(code))
  )

  it("§5.5: the reason has what a control frame leaves beside the code", () => {
    assert.strictEqual(maxReasonBytes, 123)
  })

  it("§5.5.1: without a code there is no payload, and without a payload no code", () => {
    assert.strictEqual(encode({ code: undefined, reason: "lost" }, Utf8.portable).length, 0)
    assert.deepStrictEqual(decode(new Uint8Array(0), Utf8.portable), { code: undefined, reason: "" })
  })

  it("§5.5.1: the code is in network byte order, the reason in UTF-8", () => {
    assert.deepStrictEqual(
      encode({ code: 1001, reason: "€" }, Utf8.portable),
      Uint8Array.of(0x03, 0xe9, 0xe2, 0x82, 0xac)
    )
  })

  it.prop("§5.5.1: what is encoded decodes to itself", {
    code: Schema.Union([Schema.Literals(registered), between(3000, 4999)]),
    points: Schema.Array(Schema.Union([between(0, 0xd7ff), between(0xe000, 0x10ffff)]))
  }, ({ code, points }) => {
    const close = { code, reason: String.fromCodePoint(...points) }
    assert.deepStrictEqual(decode(encode(close, Utf8.portable), Utf8.portable), close)
  })

  it.prop("§5.5.1: any payload is refused or says exactly what it encodes", {
    code: Schema.Union([Schema.Literals(registered), between(0, 0xffff)]),
    rest: Schema.Uint8Array
  }, ({ code, rest }) => {
    const payload = Uint8Array.of(code >>> 8, code & 0xff, ...rest)
    const close = decode(payload, Utf8.portable)
    if ("_tag" in close) assert.strictEqual(close.closeCode, isCloseCode(code) ? 1007 : 1002)
    else assert.deepStrictEqual(encode(close, Utf8.portable), payload)
  })
})
