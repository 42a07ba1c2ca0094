import { Opcode } from "@effect-ws/core/protocol/Frame"
import { FrameDecoder } from "@effect-ws/core/protocol/FrameDecoder"
import { MessageAssembler, type MessageLimits } from "@effect-ws/core/protocol/MessageAssembler"
import type { ProtocolViolation } from "@effect-ws/core/protocol/ProtocolViolation"
import * as Utf8 from "@effect-ws/core/protocol/Utf8"
import * as Wire from "@effect-ws/test-kit/Wire"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { between, concat, Cuts, splitAt } from "./chunks.ts"

const { binary, continuation, frame, more, pattern, text } = Wire

const unlimited: MessageLimits = { maxMessageBytes: Number.MAX_SAFE_INTEGER, maxFragments: Infinity }

class Assembly {
  readonly messages: Array<string | Uint8Array> = []
  readonly assembler: MessageAssembler
  private readonly decoder: FrameDecoder

  constructor(limits: MessageLimits = unlimited, reservedBits = 0) {
    this.assembler = new MessageAssembler({ limits, utf8: Utf8.portable })
    this.decoder = new FrameDecoder({ role: "client", reservedBits })
  }

  get target(): Uint8Array | undefined {
    return this.assembler.target(this.decoder.awaited)
  }

  push(bytes: Uint8Array): ProtocolViolation | undefined {
    this.decoder.push(bytes)
    for (let piece = this.decoder.next(); piece !== undefined; piece = this.decoder.next()) {
      const violation = piece._tag === "FramePiece" ? this.assembler.push(piece, this.messages) : piece
      if (violation !== undefined) return violation
    }
    return undefined
  }

  frames(...frames: ReadonlyArray<Wire.Frame>): ProtocolViolation | undefined {
    return this.push(Wire.encode("server", frames))
  }
}

// The lengths of all arrays that are made while `run` runs.
const allocationsOf = (run: () => void): Array<number> => {
  const original = globalThis.Uint8Array
  const lengths: Array<number> = []
  globalThis.Uint8Array = new Proxy(original, {
    construct: (target, args, _newTarget) => {
      if (typeof args[0] === "number") lengths.push(args[0])
      return Reflect.construct(target, args, target)
    }
  })
  try {
    run()
  } finally {
    globalThis.Uint8Array = original
  }
  return lengths
}

describe("MessageAssembler", () => {
  // The first of all: where a message has grown as far as it may, the next one grows, too.
  it("§5.4: a message as long as may be is not changed by the next one", () => {
    const assembly = new Assembly({ maxMessageBytes: 100_000, maxFragments: 3 })
    for (const  of of[pattern, (size: number) => new Uint8Array(size)]) {
      assert.isUndefined(assembly.frames(binary(of(1), more), continuation(of(99_999), more), continuation()))
    }
    assert.strictEqual(Buffer.compare(assembly.messages[0] as Uint8Array, concat([pattern(1), pattern(99_999)])), 0)
  })

  it("§10.4: memory follows what has arrived, not what was announced", () => {
    const assembly = new Assembly()
    const total = 512 * 1024
    const chunks = splitAt(
      Wire.encode("server", [binary(pattern(total))]),
      Array.from({ length: 300 }, (_, i) => i * 1749)
    )
    let arrived = 0
    let allocated = 0
    for (const chunk of chunks) {
      arrived += chunk.length
      const lengths = allocationsOf(() => assert.isUndefined(assembly.push(chunk)))
      for (const length of lengths) {
        assert.isAtMost(length, 4096 + 16 * arrived)
        allocated += length
      }
    }
    // Growing costs no more than a few times the message.
    assert.isAtMost(allocated, 4 * total)
    assert.deepStrictEqual(assembly.messages, [pattern(total)])
  })

  it("§10.4: one-byte fragments do not make appending quadratic", () => {
    const assembly = new Assembly()
    assembly.frames(binary("", more))
    const fragment = Wire.encode("server", [continuation([1], more)])
    const lengths = allocationsOf(() => {
      for (let i = 0; i < 20_000; i++) assembly.push(fragment)
    })
    assert.strictEqual(assembly.assembler.bytes, 20_000)
    assert.isAtMost(lengths.length, 4)
  })

  it.prop("§5.4: a message is the same wherever its bytes were read to", {
    kind: Schema.Literals(["text", "binary"]),
    sizes: Schema.Array(Schema.Union([between(0, 200), between(30_000, 300_000)])),
    steps: Schema.Array(between(1, 100_000)).check(Schema.isMinLength(1))
  }, ({ kind, sizes, steps }) => {
    const assembly = new Assembly()
    const [first = new Uint8Array(0), ...rest] = sizes.map((size) => pattern(size).map((byte) => byte & 0x7f))
    const fragments = [frame(Opcode[kind], first, more), ...rest.map((bytes) => continuation(bytes, more))]
    const bytes = Wire.encode("server", [...fragments, continuation()])
    for (let at = 0, reads = 0; at < bytes.length; reads++) {
      const target = assembly.target
      // It may be where an earlier message grew.
      if (target !== undefined) assert.isAtMost(target.buffer.byteLength, Math.max(4 * 1024 * 1024, 4096 + 16 * at))
      const step = Math.min(steps[reads % steps.length]!, target?.length ?? Infinity)
      const chunk = bytes.slice(at, at + step)
      target?.set(chunk)
      assert.isUndefined(assembly.push(target?.subarray(0, chunk.length) ?? chunk))
      at += chunk.length
    }
    const expected = concat([first, ...rest])
    assert.deepStrictEqual(assembly.messages, [kind === "text" ? new TextDecoder().decode(expected) : expected])
  })

  it("§10.4: a large message is read to its own memory, up to its last bytes", () => {
    const assembly = new Assembly()
    const bytes = Wire.encode("server", [binary(pattern(1_000_000))])
    let copied = 0
    for (let at = 0; at < bytes.length;) {
      const target = assembly.target
      const chunk = bytes.slice(at, at + (target?.length ?? 64 * 1024))
      target?.set(chunk)
      if (target === undefined) copied += chunk.length
      assert.isUndefined(assembly.push(target?.subarray(0, chunk.length) ?? chunk))
      at += chunk.length
    }
    assert.isAtMost(copied, 128 * 1024)
    assert.deepStrictEqual(assembly.messages, [pattern(1_000_000)])
  })

  it.prop("§5.4: a message is what was sent, whatever comes after it, and there is nothing else in its memory", {
    sizes: Schema.Array(Schema.Union([between(0, 200), between(4000, 20_000)])),
    cuts: Cuts
  }, ({ cuts, sizes }) => {
    const assembly = new Assembly()
    const send = (of: (size: number) => Uint8Array) => {
      const fragments = sizes.map((size, i) => (i === 0 ? binary : continuation)(of(size), more))
      const end = (sizes.length === 0 ? binary : continuation)()
      for (const chunk of splitAt(Wire.encode("server", [...fragments, end]), cuts)) {
        assert.isUndefined(assembly.push(chunk.slice()))
      }
    }
    send(pattern)
    send((size) => new Uint8Array(size))
    const [message] = assembly.messages
    assert(message instanceof Uint8Array)
    assert.strictEqual(Buffer.compare(message, concat(sizes.map((size) => pattern(size)))), 0)
    assert.strictEqual(message.buffer.byteLength, message.length)
  })

  it("§5.4: nor is a chunk of which it was a part", () => {
    const assembly = new Assembly()
    const bytes = Wire.encode("server", [binary(pattern(1000)), binary(pattern(200))])
    assert.isUndefined(assembly.push(bytes))
    const [large, small] = assembly.messages
    assert(large instanceof Uint8Array && small instanceof Uint8Array)
    assert.deepStrictEqual([large, small], [pattern(1000), pattern(200)])
    assert.deepStrictEqual([large.buffer.byteLength, small.buffer.byteLength], [1000, 200])
  })

  it("§5.4: nothing is held between messages", () => {
    const assembly = new Assembly()
    assembly.frames(text("a", more))
    assert.strictEqual(assembly.assembler.bytes, 1)
    assembly.frames(continuation("b"))
    assert.strictEqual(assembly.assembler.bytes, 0)
  })

  it("§5.2: an extension's bit belongs on the first frame of a message only", () => {
    const assembly = new Assembly(unlimited, 4)
    assert.isUndefined(assembly.frames(text("a", { rsv: 4 }), text("b", { fin: false, rsv: 4 }), continuation("c")))
    const violation = assembly.frames(text("d", { fin: false, rsv: 4 }), continuation("e", { rsv: 4 }))
    assert.strictEqual(violation?.closeCode, 1002)
    assert.strictEqual(violation?.section, "5.2")
  })
})
