import { Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

describe("a frame on the wire", () => {
  it("§5.7: is that of the examples, in either role", () => {
    assert.strictEqual(hex(Wire.encode("server", [Wire.text("Hello")])), "810548656c6c6f")
    assert.strictEqual(hex(Wire.encode("client", [Wire.text("Hello")])), "818537fa213d7f9f4d5158")
    const fragments = [Wire.text("Hel", Wire.more), Wire.continuation("lo")]
    assert.strictEqual(hex(Wire.encode("server", fragments)), "010348656c80026c6f")
    assert.strictEqual(hex(Wire.encode("server", [Wire.binary(new Uint8Array(256))])).slice(0, 8), "827e0100")
    assert.strictEqual(
      hex(Wire.encode("server", [Wire.binary(new Uint8Array(65_536))])).slice(0, 20),
      "827f0000000000010000"
    )
  })

  it("is as illegal as it is told to be", () => {
    const encode = (frame: Wire.Frame) => hex(Wire.encode("client", [frame]))
    assert.strictEqual(encode(Wire.frame(0x3, "", { fin: false, rsv: 5, maskKey: [0, 0, 0, 0] })), "538000000000")
    assert.strictEqual(encode(Wire.ping("a", { masked: false })), "890161")
    assert.strictEqual(encode(Wire.ping("a", { masked: false, lengthBits: 64 })), "897f000000000000000161")
    assert.strictEqual(encode(Wire.binary([1], { masked: false, announced: 2 ** 62 })), "827f400000000000000001")
    assert.strictEqual(encode(Wire.binary([1, 2, 3], { masked: false, upTo: 4 })), "82030102")
    assert.strictEqual(encode(Wire.close(1006, [0xff], { masked: false })), "880303eeff")
    assert.strictEqual(encode(Wire.close(undefined, "", { masked: false })), "8800")
  })
})
