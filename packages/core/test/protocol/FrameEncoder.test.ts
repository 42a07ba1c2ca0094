import { Engine } from "@effect-ws/core/protocol/Engine"
import { Opcode, type Role } from "@effect-ws/core/protocol/Frame"
import { encode, FrameEncoder, headerLength } from "@effect-ws/core/protocol/FrameEncoder"
import * as Utf8 from "@effect-ws/core/protocol/Utf8"
import * as Wire from "@effect-ws/test-kit/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { between, concat, Cuts, splitAt } from "./chunks.ts"

const Sender = Schema.Literals(["server", "client"])

// Around the lengths where the header grows, a payload is shared instead of copied, and a slab is full.
const Size = Schema.Union([
  between(0, 130),
  Schema.Literals([125, 126, 16_383, 16_384, 16_385, 65_521, 65_522, 65_526, 65_527, 65_532, 65_533]),
  Schema.Literals([65_535, 65_536, 65_537, 100_000])
])

const hello = new TextEncoder().encode("Hello")

const octets = (key: number) => [key >>> 24, (key >>> 16) & 0xff, (key >>> 8) & 0xff, key & 0xff] as const

const byTheBook = (opcode: number, payload: Uint8Array, fin: boolean, key: number | undefined): Uint8Array =>
  Wire.encode(key === undefined ? "server" : "client", [
    { ...(key === undefined ? {} : { maskKey: octets(key) }), opcode, payload, fin }
  ])

// `size` bytes of UTF-8, in characters of every length.
const textOf = (size: number, seed = 0): string => {
  const letter = String.fromCharCode(97 + seed % 26)
  return `${letter}é€𝄞`.repeat(Math.floor(size / 10)) + letter.repeat(size % 10)
}

const assertSame = (actual: Uint8Array, expected: Uint8Array) => {
  assert.strictEqual(actual.length, expected.length)
  assert.strictEqual(Buffer.compare(actual, expected), 0)
}

// Keys that are all different, and the same in every run.
const keys = () => {
  let n = 0
  return () => Math.imul(++n, 0x9e3779b1)
}

describe("FrameEncoder", () => {
  describe("encode", () => {
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

    it("§5.7: encodes as the RFC's examples", () => {
      const text = { fin: true, rsv: 0, opcode: Opcode.text, payload: hello }
      const first = { ...text, fin: false, payload: hello.subarray(0, 3) }
      const last = { ...text, opcode: Opcode.continuation, payload: hello.subarray(3) }
      assert.strictEqual(hex(encode(text, undefined)), "810548656c6c6f")
      assert.strictEqual(hex(encode(text, 0x37fa213d)), "818537fa213d7f9f4d5158")
      assert.strictEqual(hex(encode(first, undefined)), "010348656c")
      assert.strictEqual(hex(encode(last, undefined)), "80026c6f")
      assert.strictEqual(hex(encode({ ...text, opcode: Opcode.ping }, undefined)), "890548656c6c6f")
      assert.strictEqual(hex(encode({ ...text, opcode: Opcode.pong }, 0x37fa213d)), "8a8537fa213d7f9f4d5158")
    })

    it("§5.2: a length is written in the fewest bytes", () => {
      const sizes = [0, 125, 126, 65_535, 65_536, 2 ** 32, Number.MAX_SAFE_INTEGER]
      assert.deepStrictEqual(sizes.map((size) => headerLength(size, false)), [2, 2, 4, 4, 10, 10, 10])
      assert.deepStrictEqual(sizes.map((size) => headerLength(size, true)), [6, 6, 8, 8, 14, 14, 14])
    })

    it("§5.2: every byte of a long length is written", () => {
      const frame = { fin: true, rsv: 0, opcode: Opcode.binary, payload: new Uint8Array(0x0123_4567) }
      assert.strictEqual(hex(encode(frame, undefined).subarray(0, 10)), "827f0000000001234567")
    })

    it.prop("§5.2: encodes any frame by the book, and leaves its payload as it is", {
      opcode: Schema.Literals([0x0, 0x1, 0x2]),
      fin: Schema.Boolean,
      rsv: between(0, 7),
      size: Size,
      key: Schema.Union([Schema.Undefined, between(-0x8000_0000, 0x7fff_ffff)])
    }, ({ fin, key, opcode, rsv, size }) => {
      const payload = Wire.pattern(size)
      const expected = byTheBook(opcode, payload, fin, key)
      expected[0]! |= rsv << 4
      assertSame(encode({ fin, rsv, opcode, payload }, key), expected)
      assertSame(payload, Wire.pattern(size))
    })
  })

  const Write = Schema.Struct({
    _tag: Schema.Literals(["Text", "Binary", "Fragment", "Ping", "Encoded"]),
    encoder: between(0, 2),
    size: Size
  })
  const Take = Schema.Struct({
    _tag: Schema.Literal("Take"),
    encoder: between(0, 2),
    // Whether the chunks are given back, left to those who read them, or still read while the encoder goes on.
    release: Schema.Literals(["Reusable", "Kept", "NotYet"])
  })

  // An encoder beside what it ought to hold.
  class Model {
    readonly kept: Array<readonly [chunk: Uint8Array, before: Uint8Array]> = []
    private held: Array<readonly [chunk: Uint8Array, before: Uint8Array]> = []
    private expected: Array<Uint8Array> = []
    private readonly encoder: FrameEncoder
    private readonly masked: boolean
    private readonly key: () => number | undefined

    constructor(sender: Role) {
      this.masked = sender === "client"
      this.encoder = new FrameEncoder({ maskKey: this.masked ? keys() : undefined, utf8: Utf8.portable })
      this.key = this.masked ? keys() : () => undefined
    }

    write({ _tag, size }: typeof Write.Type, seed: number): void {
      const payload = Wire.pattern(_tag === "Ping" ? Math.min(size, 125) : size, seed)
      switch (_tag) {
        case "Text": {
          const text = textOf(size, seed)
          const bytes = new TextEncoder().encode(text)
          this.expected.push(byTheBook(Opcode.text, bytes, true, this.key()))
          this.encoder.text(text, bytes.length)
          break
        }
        case "Encoded": {
          this.expected.push(payload.slice())
          this.encoder.encoded(payload)
          break
        }
        default: {
          const opcode = _tag === "Ping" ? Opcode.ping : Opcode.binary
          const frame = byTheBook(opcode, payload, _tag !== "Fragment", this.key())
          assert.strictEqual(headerLength(payload.length, this.masked) + payload.length, frame.length)
          this.expected.push(frame)
          this.encoder.frame(opcode, payload, _tag !== "Fragment")
        }
      }
      // Whoever sent the payload still has it.
      this.kept.push([payload, payload.slice()])
      assert.strictEqual(this.encoder.bytes, concat(this.expected).length)
    }

    take(release: (typeof Take.Type)["release"]): void {
      const chunks = this.encoder.take()
      assertSame(concat(chunks), concat(this.expected))
      assert.strictEqual(this.encoder.bytes, 0)
      assert.deepStrictEqual(this.encoder.take(), [])
      this.expected = []
      for (const chunk of chunks) this.held.push([chunk, chunk.slice()])
      if (release === "NotYet") return
      this.encoder.release(release === "Reusable")
      if (release === "Kept") this.kept.push(...this.held)
      this.held = []
    }

    assertIntact(): void {
      for (const [chunk, before] of [...this.kept, ...this.held]) assertSame(chunk, before)
    }
  }

  it.prop("what was taken is what was encoded, and is never overwritten before it is given back", {
    senders: Schema.Tuple([Sender, Sender, Sender]),
    operations: Schema.Array(Schema.Union([Write, Write, Take]))
  }, ({ operations, senders }) => {
    const models = senders.map((sender) => new Model(sender))
    for (const [i, operation] of operations.entries()) {
      const model = models[operation.encoder]!
      if (operation._tag === "Take") model.take(operation.release)
      else model.write(operation, i)
    }
    for (const model of models) model.take("Kept")
    for (const model of models) model.assertIntact()
  }, { arbitrary: { runs: 400, size: 30 } })

  it("small frames leave in one chunk, and a slab given back is used again", () => {
    const encoder = new FrameEncoder({ maskKey: undefined, utf8: Utf8.portable })
    const other = new FrameEncoder({ maskKey: undefined, utf8: Utf8.portable })
    for (let i = 0; i < 100; i++) encoder.text("Hello", 5)
    const chunks = encoder.take()
    assert.strictEqual(chunks.length, 1)
    encoder.release(true)
    other.text("Hello", 5)
    assert.strictEqual(other.take()[0]?.buffer, chunks[0]?.buffer)
    other.release(false)
    encoder.text("Hello", 5)
    assert.notStrictEqual(encoder.take()[0]?.buffer, chunks[0]?.buffer)
  })

  it("an encoder belongs to who borrowed it until it is given back, and goes by the options of the next", () => {
    const server = { maskKey: undefined, utf8: Utf8.portable }
    const client = { maskKey: () => 0x01020304, utf8: Utf8.portable }
    const [first, second] = [FrameEncoder.borrow(client), FrameEncoder.borrow(server)]
    assert.notStrictEqual(first, second)
    first.giveBack()
    const third = FrameEncoder.borrow(server)
    assert.strictEqual(third, first)
    assert.notInclude([second, third], FrameEncoder.borrow(server))
    third.frame(Opcode.binary, new Uint8Array([5]), true)
    assertSame(concat(third.take()), new Uint8Array([0x82, 1, 5]))
  })

  it("a slab that is filled to its last byte after a take hands over only what is new", () => {
    const encoder = new FrameEncoder({ maskKey: undefined, utf8: Utf8.portable })
    for (let i = 0; i < 4; i++) encoder.encoded(new Uint8Array(16_000))
    assert.strictEqual(concat(encoder.take()).length, 64_000)
    encoder.encoded(Wire.pattern(64 * 1024 - 64_000))
    assertSame(concat(encoder.take()), Wire.pattern(64 * 1024 - 64_000))
    encoder.release(true)
  })

  it("an unmasked payload of 16 KiB and more is shared, any other is copied", () => {
    for (const sender of ["server", "client"] as const) {
      for (const size of [16_383, 16_384, 70_000]) {
        const encoder = new FrameEncoder({
          maskKey: sender === "client" ? keys() : undefined,
          utf8: Utf8.portable
        })
        const payload = new Uint8Array(size)
        encoder.frame(Opcode.binary, payload, true)
        const isShared = encoder.take().some((chunk) => chunk.buffer === payload.buffer)
        assert.strictEqual(isShared, sender === "server" && size >= 16_384)
        encoder.encoded(payload)
        encoder.frame(Opcode.ping, hello, true)
        assert.strictEqual(encoder.take().some((chunk) => chunk.buffer === payload.buffer), size >= 16_384)
      }
    }
  })

  it("a turn that outgrows its small slab still leaves in one chunk", () => {
    const encoder = new FrameEncoder({ maskKey: undefined, utf8: Utf8.portable })
    const payload = new Uint8Array(600).fill(7)
    for (let i = 0; i < 10; i++) encoder.frame(Opcode.binary, payload, true)
    const chunks = encoder.take()
    assert.strictEqual(chunks.length, 1)
    assert.strictEqual(chunks[0]!.length, 10 * 604)
    for (let i = 0; i < 10; i++) assert.deepStrictEqual(chunks[0]!.slice(i * 604 + 4, (i + 1) * 604), payload)
  })

  it("§5.3: every frame has a key of its own", () => {
    let asked = 0
    const encoder = new FrameEncoder({ maskKey: () => ++asked, utf8: Utf8.portable })
    encoder.text("a", 1)
    encoder.frame(Opcode.binary, hello, false)
    encoder.frame(Opcode.ping, hello, true)
    encoder.frame(Opcode.continuation, new Uint8Array(70_000), true)
    assert.strictEqual(asked, 4)
  })

  const Message = Schema.Struct({
    isText: Schema.Boolean,
    size: Size,
    cuts: Schema.Array(between(0, 0x7fff_ffff)).check(Schema.isMaxLength(3)),
    ping: Schema.Boolean
  })

  it.prop("§5.4: any messages, fragmented and cut in any way, arrive as they were sent", {
    sender: Sender,
    messages: Schema.Array(Message),
    flushes: Schema.Boolean,
    cuts: Cuts
  }, ({ cuts, flushes, messages, sender }) => {
    const encoder = new FrameEncoder({ maskKey: sender === "client" ? keys() : undefined, utf8: Utf8.portable })
    const wire: Array<Uint8Array> = []
    const flush = () => {
      for (const chunk of encoder.take()) wire.push(chunk.slice())
      encoder.release(true)
    }
    const expected: Array<string | Uint8Array> = []
    let pings = 0
    for (const { cuts, isText, ping, size } of messages) {
      const message = isText ? textOf(size) : Wire.pattern(size)
      const payload = typeof message === "string" ? new TextEncoder().encode(message) : message
      expected.push(message)
      if (typeof message === "string" && cuts.length === 0) encoder.text(message, payload.length)
      else {
        for (const [i, fragment] of splitAt(payload, cuts).entries()) {
          const opcode = i > 0 ? Opcode.continuation : isText ? Opcode.text : Opcode.binary
          encoder.frame(opcode, fragment, i === cuts.length)
          if (!ping) continue
          encoder.frame(Opcode.ping, Uint8Array.of(pings++ & 0xff), true)
        }
      }
      if (flushes) flush()
    }
    flush()

    const limits = { maxMessageBytes: 1024 * 1024, maxFragments: 10, maxControlFramesPerSecond: Infinity }
    const engine = new Engine({ role: sender === "server" ? "client" : "server", limits, utf8: Utf8.portable })
    let pinged = 0
    for (const chunk of splitAt(concat(wire), cuts)) {
      for (const event of engine.receive(chunk.slice(), 0)) {
        assert(event._tag === "Ping")
        assert.deepStrictEqual(event.payload, Uint8Array.of(pinged++ & 0xff))
      }
    }
    assert.strictEqual(pinged, pings)
    const received = engine.takeMessages() ?? []
    assert.strictEqual(received.length, expected.length)
    for (const [i, message] of expected.entries()) {
      const actual = received[i]!
      if (typeof message === "string" || typeof actual === "string") assert.strictEqual(actual, message)
      else assertSame(actual, message)
    }
  }, { arbitrary: { runs: 200 } })
})
