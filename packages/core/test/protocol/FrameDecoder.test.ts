import { type Frame, isControl, type Role } from "@effect-ws/core/protocol/Frame"
import { FrameDecoder } from "@effect-ws/core/protocol/FrameDecoder"
import type { ProtocolViolation } from "@effect-ws/core/protocol/ProtocolViolation"
import * as Wire from "@effect-ws/test-kit/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { between, concat, Cuts, splitAt } from "./chunks.ts"

const Role = Schema.Literals(["server", "client"])
const Opcode = Schema.Literals([0x0, 0x1, 0x2, 0x8, 0x9, 0xa])
const Size = Schema.Union([
  between(0, 130),
  Schema.Literals([125, 126, 127, 1000, 16_384, 65_535, 65_536, 65_537])
])
const MaskKey = Schema.Tuple([between(0, 255), between(0, 255), between(0, 255), between(0, 255)])

const { binary, frame, pattern, ping, text } = Wire

const sent = (role: Role, ...frames: ReadonlyArray<Wire.Frame>): Uint8Array =>
  Wire.encode(role === "server" ? "client" : "server", frames)

// Puts pieces together again, holding the decoder to what it promises of each.
class Collector {
  readonly frames: Array<Frame> = []
  violation: ProtocolViolation | undefined
  pieces = 0
  private parts: Array<Uint8Array> | undefined
  private readonly decoder: FrameDecoder

  constructor(role: Role, reservedBits?: number) {
    this.decoder = new FrameDecoder({ role, reservedBits })
  }

  push(chunk: Uint8Array): void {
    const lent = chunk.slice()
    this.decoder.push(lent)
    for (let piece = this.decoder.next(); piece !== undefined; piece = this.decoder.next()) {
      if (piece._tag !== "FramePiece") {
        this.violation = piece
        return
      }
      this.pieces++
      const { end, fin, first, last, length, opcode, rsv, start } = piece
      assert.strictEqual(first, this.parts === undefined)
      if (isControl(opcode)) assert.isTrue(first && last)
      this.parts = [...this.parts ?? [], piece.bytes.slice(start, end)]
      const payload = concat(this.parts)
      assert.strictEqual(last, payload.length === length)
      if (!last) continue
      this.frames.push({ fin, rsv, opcode, payload })
      this.parts = undefined
    }
    lent.fill(0xee)
  }
}

const collect = (role: Role, bytes: Uint8Array, cuts: ReadonlyArray<number>, reservedBits?: number): Collector => {
  const collector = new Collector(role, reservedBits)
  for (const chunk of splitAt(bytes, cuts)) collector.push(chunk)
  return collector
}

describe("FrameDecoder", () => {
  it.prop("§5.2: frames come out as they went in, however they are cut", {
    role: Role,
    frames: Schema.Array(Schema.Struct({ opcode: Opcode, fin: Schema.Boolean, size: Size, maskKey: MaskKey })),
    cuts: Cuts
  }, ({ cuts, frames, role }) => {
    const wire = frames.map(({ fin, maskKey, opcode, size }) =>
      isControl(opcode)
        ? frame(opcode, pattern(Math.min(size, 125)), { maskKey })
        : frame(opcode, pattern(size), { maskKey, fin })
    )
    const { frames: received, violation } = collect(role, sent(role, ...wire), cuts)
    assert.isUndefined(violation)
    assert.strictEqual(received.length, wire.length)
    for (const [i, { fin, opcode, payload, rsv }] of received.entries()) {
      const expected = wire[i]!
      assert.deepStrictEqual({ fin, opcode, rsv }, { fin: expected.fin ?? true, opcode: expected.opcode, rsv: 0 })
      assert.strictEqual(Buffer.compare(payload, expected.payload), 0)
    }
  }, { arbitrary: { runs: 300 } })

  it("§5.2: a header is told before any of its payload has arrived", () => {
    const decoder = new FrameDecoder({ role: "server" })
    decoder.push(sent("server", binary("", { announced: 70_000 })))
    const piece = decoder.next()
    assert(piece?._tag === "FramePiece")
    const { end, first, last, length, start } = piece
    assert.deepStrictEqual({ first, last, length, size: end - start }, {
      first: true,
      last: false,
      length: 70_000,
      size: 0
    })
    assert.isUndefined(decoder.next())
  })

  it("§5.2: data is told as it arrives, a control frame when it is whole", () => {
    const collector = new Collector("server")
    for (const byte of sent("server", binary([1, 2, 3]), ping([1, 2, 3]))) collector.push(Uint8Array.of(byte))
    assert.strictEqual(collector.pieces, 4 + 1)
  })

  it("§5.2: an extension's bits are allowed on data frames, and only the negotiated ones", () => {
    for (let reservedBits = 0; reservedBits <= 7; reservedBits++) {
      for (let rsv = 0; rsv <= 7; rsv++) {
        const data = collect("client", sent("client", text("a", { rsv })), [], reservedBits)
        assert.strictEqual(data.violation === undefined, (rsv & ~reservedBits) === 0)
        if (data.violation === undefined) assert.strictEqual(data.frames[0]?.rsv, rsv)
        const control = collect("client", sent("client", ping("a", { rsv })), [], reservedBits)
        assert.strictEqual(control.violation === undefined, rsv === 0)
      }
    }
  })

  it("§7.1.7: after a violation there is nothing but that violation", () => {
    const decoder = new FrameDecoder({ role: "server" })
    decoder.push(sent("server", frame(0x3), text("a")))
    const violation = decoder.next()
    assert.strictEqual(violation?._tag, "ProtocolError")
    assert.strictEqual(decoder.next(), violation)
    decoder.push(sent("server", text("a")))
    assert.strictEqual(decoder.next(), violation)
  })

  it.prop("§5.2: any bytes are frames or a violation, and no more payload comes out than went in", {
    role: Role,
    bytes: Schema.Uint8Array,
    cuts: Cuts,
    reservedBits: between(0, 7)
  }, ({ bytes, cuts, reservedBits, role }) => {
    const uncut = collect(role, bytes, [], reservedBits)
    const cut = collect(role, bytes, cuts, reservedBits)
    assert.deepStrictEqual(cut.frames, uncut.frames)
    assert.deepStrictEqual(cut.violation, uncut.violation)
    assert.isAtMost(cut.frames.reduce((sum, { payload }) => sum + 2 + payload.length, 0), bytes.length)
  }, { arbitrary: { runs: 2000, size: 40 } })
})
