import { type MessageCodec, TypedConnection } from "@effect-ws/core"
import { MessagePack } from "@effect-ws/msgpack"
import { TestNetwork, WebSocketProbe, Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Schema, Stream } from "effect"
import { memoryUsage } from "node:process"

const Chat = Schema.TaggedUnion({
  Say: { text: Schema.String, to: Schema.optionalKey(Schema.String) },
  Show: { picture: Schema.Uint8Array, at: Schema.Date },
  Are: { people: Schema.Record(Schema.String, Schema.Struct({ age: Schema.NullOr(Schema.Finite) })) }
})
const chat = MessagePack.codec(Chat)
const anything = MessagePack.codec(Schema.Unknown)

const ascii = (text: string) => new TextEncoder().encode(text)
const bytesOf = (...parts: ReadonlyArray<number | string | Uint8Array>): Uint8Array =>
  new Uint8Array(
    Buffer.concat(
      parts.map((part) =>
        typeof part === "number" ? Uint8Array.of(part) : typeof part === "string" ? ascii(part) : part
      )
    )
  )
const times = (count: number, bytes: Uint8Array) =>
  new Uint8Array(count * bytes.length).map((_, i) => bytes[i % bytes.length]!)

const reasonOf = <A>(codec: MessageCodec.MessageCodec<A>, bytes: Uint8Array) =>
  Effect.map(Effect.flip(codec.decode(bytes)), ({ reason }) => reason._tag)

describe("values", () => {
  it.effect("are written as MessagePack says", () =>
    Effect.gen(function*() {
      const say = bytesOf(0x82, 0xa4, "_tag", 0xa3, "Say", 0xa4, "text", 0xa2, "hi")
      assert.deepStrictEqual(yield* chat.encode({ _tag: "Say", text: "hi" }), say)
      assert.deepStrictEqual(yield* chat.decode(say), { _tag: "Say", text: "hi" })
      assert.deepStrictEqual(
        yield* anything.encode({ compact: true, schema: 0 }),
        bytesOf(
          0x82,
          0xa7,
          "compact",
          0xc3,
          0xa6,
          "schema",
          0x00
        )
      )
    }))

  it.effect.prop(
    "any value of the schema comes back as it was",
    { value: Chat },
    ({ value }) =>
      Effect.gen(function*() {
        const decoded = yield* Effect.exit(chat.decode(yield* chat.encode(value)))
        if (value._tag === "Are" && Object.hasOwn(value.people, "__proto__")) {
          return assert.isTrue(Exit.isFailure(decoded))
        }
        const isSame = Schema.toEquivalence(Chat)
        assert.isTrue(Exit.isSuccess(decoded) && isSame(decoded.value, value), JSON.stringify(decoded))
      })
  )

  it.effect("a field that is undefined is left out", () =>
    Effect.gen(function*() {
      const codec = MessagePack.codec(Schema.Struct({ to: Schema.optional(Schema.String) }))
      assert.deepStrictEqual(yield* codec.encode({ to: undefined }), bytesOf(0x80))
      assert.deepStrictEqual(yield* codec.decode(bytesOf(0x80)), {})
    }))

  it.effect.prop("any JSON comes back as it was", { json: Schema.Json }, ({ json }) =>
    Effect.gen(function*() {
      const codec = MessagePack.codec(Schema.Json)
      const decoded = yield* Effect.exit(codec.decode(yield* codec.encode(json)))
      if (JSON.stringify(json).includes("__proto__")) return
      // One zero only.
      assert.strictEqual(JSON.stringify(Exit.isSuccess(decoded) && decoded.value), JSON.stringify(json))
    }))

  it.effect.each([new Map([[1, 2]]), new Set([1]), 1n, () => 1, /x/, new Float64Array(1), { at: new URL("ws://x") }])(
    "%s is not written as something else",
    (value) =>
      Effect.gen(function*() {
        const { reason } = yield* Effect.flip(anything.encode(value))
        assert.deepInclude(reason, { _tag: "Unrepresentable", format: "MessagePack" })
      })
  )

  it.effect("cycles, and what is nested too deeply, do not encode", () =>
    Effect.gen(function*() {
      const cyclic: Record<string, unknown> = {}
      cyclic["self"] = cyclic
      assert.strictEqual((yield* Effect.flip(anything.encode(cyclic)))._tag, "EncodeError")
      // The encoder is as it was.
      assert.deepStrictEqual(yield* anything.encode(1), bytesOf(1))
    }))
})

describe("bytes that are not MessagePack", () => {
  const array32 = (length: number) =>
    bytesOf(0xdd, length >>> 24, (length >>> 16) & 255, (length >>> 8) & 255, length & 255)

  const malformed: ReadonlyArray<readonly [what: string, bytes: Uint8Array]> = [
    ["nothing", bytesOf()],
    ["two values", bytesOf(1, 2)],
    ["the byte that is never used", bytesOf(0xc1)],
    ["a string that is cut off", bytesOf(0xa5, "abc")],
    ["a string without its length", bytesOf(0xda, 0)],
    ["a number that is cut off", bytesOf(0xcb, 0, 0)],
    ["an array that is cut off", bytesOf(0x93, 1, 2)],
    ["a map without its last value", bytesOf(0x81, 0xa1, "a")],
    ["a string that promises 4 GiB", bytesOf(0xdb, 255, 255, 255, 255, "abc")],
    ["bytes that promise 4 GiB", bytesOf(0xc6, 255, 255, 255, 255, 1)],
    ["a map that promises 4 G entries", bytesOf(0xdf, 255, 255, 255, 255, 1)],
    ["an array that promises 4 G elements", array32(0xffffffff)],
    ["an extension of one byte", bytesOf(0xd4, 1, 0)],
    ["an extension of 16 bytes", bytesOf(0xd8, 1, new Uint8Array(16))],
    ["an extension that promises 4 GiB", bytesOf(0xc9, 255, 255, 255, 255, 1)],
    ["an extension of the size of a timestamp", bytesOf(0xd6, 5, 0, 0, 0, 0)],
    ["a timestamp of an odd size", bytesOf(0xc7, 5, 0xff, 0, 0, 0, 0, 0)],
    ["a timestamp that is cut off", bytesOf(0xd6, 0xff, 0, 0)],
    ["a map with a key that is a map", bytesOf(0x81, 0x80, 1)],
    ["a map with a key that is nil", bytesOf(0x81, 0xc0, 1)],
    ["__proto__ as a key", bytesOf(0x81, 0xa9, "__proto__", 0x80)]
  ]

  it.effect.each(malformed)("%s", ([, bytes]) =>
    Effect.gen(function*() {
      assert.strictEqual(yield* reasonOf(anything, bytes), "Malformed")
      assert.strictEqual(yield* anything.decode(bytesOf(7)), 7)
    }))

  it.effect("are nested deeper than 100, in arrays or maps; 100 is fine", () =>
    Effect.gen(function*() {
      for (const level of [bytesOf(0x91), bytesOf(0x81, 0xa1, "a")]) {
        assert.isTrue(Exit.isSuccess(yield* Effect.exit(anything.decode(bytesOf(times(100, level), 0xc0)))))
        assert.strictEqual(yield* reasonOf(anything, bytesOf(times(101, level), 0xc0)), "Malformed")
        assert.strictEqual(yield* reasonOf(anything, bytesOf(times(200_000, level), 0xc0)), "Malformed")
      }
    }))

  it.effect("make room for no more than comes, whatever they promise", () =>
    Effect.gen(function*() {
      const before = memoryUsage.rss()
      // Were room made for each, it would be 800 MiB.
      const bytes = times(100, array32(1_000_000))
      assert.strictEqual(yield* reasonOf(anything, bytes), "Malformed")
      assert.isBelow(memoryUsage.rss() - before, 100 * 1024 * 1024)
    }))

  it.effect.prop(
    "any bytes decode, or are a DecodeError",
    { bytes: Schema.Uint8Array },
    ({ bytes }) =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(anything.decode(bytes))
        if (Exit.isFailure(exit)) assert.strictEqual(yield* reasonOf(anything, bytes), "Malformed")
      })
  )

  it.effect.prop(
    "any message with a few bytes changed or cut off decodes, or is a DecodeError",
    {
      value: Chat,
      changes: Schema.Array(Schema.Struct({ at: Schema.Int, byte: Schema.Int })).check(Schema.isMaxLength(4)),
      cut: Schema.Int
    },
    ({ changes, cut, value }) =>
      Effect.gen(function*() {
        const bytes = (yield* chat.encode(value)) as Uint8Array
        for (const { at, byte } of changes) bytes[Math.abs(at) % bytes.length] = byte
        const part = cut % 2 === 0 ? bytes : bytes.subarray(0, Math.abs(cut) % bytes.length)
        const exit = yield* Effect.exit(chat.decode(part))
        if (Exit.isFailure(exit)) assert.include(["Malformed", "Mismatch"], yield* reasonOf(chat, part))
      })
  )
})

describe("on a connection", () => {
  const protocol = { incoming: chat, outgoing: chat }
  const Echo = TypedConnection.serve(
    protocol,
    (client) => Stream.runForEach(client.messages, (message) => client.send(message))
  )
  const App = Layer.provideMerge(Echo, TestNetwork.layer)

  it.effect("values go both ways as binary messages", () =>
    Effect.gen(function*() {
      const server = yield* TypedConnection.connect(protocol, "ws://localhost")
      const shown = { _tag: "Show", picture: Uint8Array.of(1, 2, 3), at: new Date(0) } as const
      yield* server.send(shown)
      assert.deepStrictEqual(yield* server.receive, shown)
    }).pipe(Effect.provide(App)))

  it.effect.each([
    { what: "a text message", frame: Wire.text("{}"), code: 1003 },
    { what: "another value", frame: Wire.binary(bytesOf(1)), code: 1007 },
    { what: "what is not MessagePack", frame: Wire.binary(bytesOf(0xc1)), code: 1007 }
  ])("$what is answered $code", ({ code, frame }) =>
    Effect.gen(function*() {
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      yield* probe.send(frame)
      yield* probe.expectClose(code)
      yield* probe.sendClose(code)
      yield* probe.end
    }).pipe(Effect.provide(App)))
})
