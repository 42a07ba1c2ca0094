import { Message, MessageCodec } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Context, DateTime, Effect, Exit, Layer, Schema, SchemaGetter, SchemaIssue, SchemaTransformation } from "effect"

const Chat = Schema.TaggedUnion({
  Say: { text: Schema.String, at: Schema.DateTimeUtc, picture: Schema.Uint8Array },
  Move: { x: Schema.Finite, y: Schema.Int },
  Are: { people: Schema.Record(Schema.String, Schema.Struct({ age: Schema.Int })) }
})
const chat = MessageCodec.json(Chat)

const epoch = DateTime.makeUnsafe(0)

interface Tree {
  readonly branches: ReadonlyArray<Tree>
}
const Tree: Schema.Codec<Tree> = Schema.Struct({
  branches: Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree))
})
const tree = MessageCodec.json(Tree)

const numbers = MessageCodec.make(Schema.Finite, {
  type: "Binary",
  name: "a float64",
  parse: (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getFloat64(0, true),
  print: (value) => new Uint8Array(Float64Array.of(Number(value)).buffer)
})

const errorOf = <A>(codec: MessageCodec.MessageCodec<A>, message: Message.Message) => Effect.flip(codec.decode(message))

describe("json", () => {
  it.effect("is text, in the form that JSON has for each type", () =>
    Effect.gen(function*() {
      const said = { _tag: "Say", text: "hi", at: epoch, picture: Uint8Array.of(1, 2) } as const
      const message = yield* chat.encode(said)
      assert.deepStrictEqual(JSON.parse(message as string), {
        _tag: "Say",
        text: "hi",
        at: "1970-01-01T00:00:00.000Z",
        picture: "AQI="
      })
      assert.deepStrictEqual(yield* chat.decode(message), said)
    }))

  it.effect.prop(
    "any value of the schema comes back as it was",
    { value: Chat },
    ({ value }) =>
      Effect.gen(function*() {
        const decoded = yield* chat.decode(yield* chat.encode(value))
        // JSON has one zero only.
        assert.isTrue(Schema.toEquivalence(Chat)(decoded, value), JSON.stringify(decoded))
      })
  )

  it.effect.prop(
    "any text decodes, or is a DecodeError",
    { text: Schema.String },
    ({ text }) =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(chat.decode(text))
        if (Exit.isFailure(exit)) assert.strictEqual((yield* errorOf(chat, text))._tag, "DecodeError")
      })
  )

  it.effect.prop(
    "any JSON that is not of the schema is a DecodeError",
    { json: Schema.Json },
    ({ json }) =>
      Effect.gen(function*() {
        const text = JSON.stringify(json)
        for (const error of [yield* errorOf(chat, text), yield* errorOf(tree, text)]) {
          assert.deepInclude(error, { _tag: "DecodeError", closeCode: 1007 })
        }
      })
  )
})

describe("a message that does not decode", () => {
  it.effect("is of the wrong type: text where messages are binary, or the reverse, and 1003", () =>
    Effect.gen(function*() {
      const onText = yield* errorOf(chat, Uint8Array.of(1, 2, 3))
      assert.deepInclude(onText.reason, { _tag: "UnexpectedType", expected: "Text" })
      assert.deepInclude(onText, { closeCode: 1003, length: 3 })
      const onBinary = yield* errorOf(numbers, "1")
      assert.deepInclude(onBinary.reason, { _tag: "UnexpectedType", expected: "Binary" })
      assert.deepInclude(onBinary, { closeCode: 1003, length: 1 })
    }))

  it.effect.each(["", "{", "{\"_tag\":", "NaN", "'a'", "\u0000", "{}{}", "[1,]", "\"\\ud8\""])(
    "is not of the format: %j",
    (text) =>
      Effect.gen(function*() {
        const error = yield* errorOf(chat, text)
        assert.deepInclude(error.reason, { _tag: "Malformed", format: "JSON" })
        assert.deepInclude(error, { closeCode: 1007, length: text.length })
      })
  )

  it.effect("is not of the schema, and the error tells where", () =>
    Effect.gen(function*() {
      const error = yield* errorOf(chat, `{"_tag":"Are","people":{"Ada":{"age":"36"}}}`)
      assert.strictEqual(error.reason._tag, "Mismatch")
      assert.include(error.message, `Expected`)
      assert.include(error.message, `["people"]["Ada"]["age"]`)
      assert.strictEqual(error.closeCode, 1007)
    }))

  it.effect("leaves nothing of its values in the error, and at most 300 characters of its keys", () =>
    Effect.gen(function*() {
      const secret = "hunter2".repeat(10_000)
      const shown = (error: unknown) => JSON.stringify(error) + String(error)
      const value = yield* errorOf(chat, JSON.stringify({ _tag: "Say", text: [secret], at: secret, picture: secret }))
      const tag = yield* errorOf(chat, JSON.stringify({ _tag: secret }))
      const format = yield* errorOf(chat, secret)
      for (const error of [value, tag, format]) assert.notInclude(shown(error), "hunter2")
      const key = yield* errorOf(chat, JSON.stringify({ _tag: "Are", people: { [secret]: null } }))
      assert.isAtMost(key.message.length, 300)
    }))
})

describe("hostile input", () => {
  it.effect.each([1_000, 10_000, 100_000])(
    "nesting of %d levels decodes or fails, and the codec goes on",
    (depth) =>
      Effect.gen(function*() {
        const text = `{"branches":[`.repeat(depth) + `]}`.repeat(depth)
        const exit = yield* Effect.exit(tree.decode(text))
        if (Exit.isFailure(exit)) assert.strictEqual((yield* errorOf(tree, text)).reason._tag, "Mismatch")
        if (depth === 100_000) assert.isTrue(Exit.isFailure(exit))
        const wrong = yield* errorOf(tree, `{"branches":[`.repeat(100) + "1" + `]}`.repeat(100))
        assert.strictEqual(wrong.reason._tag, "Mismatch")
        assert.deepStrictEqual(yield* tree.decode(`{"branches":[]}`), { branches: [] })
      })
  )

  it.effect("nesting where anything goes is harmless until it is to be sent", () =>
    Effect.gen(function*() {
      const anything = MessageCodec.json(Schema.Unknown)
      const decoded = yield* Effect.exit(anything.decode("[".repeat(100_000) + "]".repeat(100_000)))
      const nested = Array.from({ length: 100_000 }).reduce((inner) => [inner], [] as unknown)
      assert.strictEqual((yield* Effect.flip(anything.encode(nested)))._tag, "EncodeError")
      if (Exit.isSuccess(decoded)) assert.isArray(decoded.value)
    }))

  it.effect("an array as large as a message may be fails at its first wrong element", () =>
    Effect.gen(function*() {
      const text = `{"branches":[${"1,".repeat(500_000)}1]}`
      const error = yield* errorOf(tree, text)
      assert.isAtMost(error.message.length, 300)
    }))

  it.effect.each(["__proto__", "constructor", "toString", "hasOwnProperty"])(
    "%s is a key like any other",
    (key) =>
      Effect.gen(function*() {
        const ages = MessageCodec.json(Schema.Record(Schema.String, Schema.Struct({ age: Schema.Int })))
        const decoded = yield* ages.decode(`{"${key}":{"age":1,"__proto__":{"polluted":true}}}`)
        assert.deepStrictEqual(Object.keys(decoded), [key])
        assert.strictEqual(Object.getPrototypeOf(decoded), Object.prototype)
        assert.deepStrictEqual({ ...Object.getOwnPropertyDescriptor(decoded, key)?.value }, { age: 1 })
        assert.notProperty({}, "polluted")
        assert.strictEqual(yield* ages.encode(decoded), `{"${key}":{"age":1}}`)
        // A field that is missing is not found on the prototype.
        const fields = MessageCodec.json(Schema.Struct({ [key]: Schema.Unknown }))
        assert.strictEqual((yield* errorOf(fields, "{}")).reason._tag, "Mismatch")
      })
  )

  it.effect("a schema that throws at a value is a DecodeError too", () =>
    Effect.gen(function*() {
      const Throwing = Schema.String.pipe(Schema.decodeTo(
        Schema.String,
        SchemaTransformation.transform({ decode: (text) => text.repeat(-1), encode: (text) => text })
      ))
      const error = yield* errorOf(MessageCodec.json(Throwing), `"x"`)
      assert.strictEqual(error.reason._tag, "Mismatch")
      assert.include(error.message, "RangeError")
    }))
})

describe("encoding", () => {
  it.effect("a value that is not of the schema is an EncodeError, and so is one that the format cannot write", () =>
    Effect.gen(function*() {
      const mismatch = yield* Effect.flip(chat.encode({ _tag: "Move", x: 1, y: 0.5 }))
      assert.strictEqual(mismatch.reason._tag, "Mismatch")
      const anything = MessageCodec.make(Schema.Unknown, {
        type: "Text",
        name: "JSON",
        parse: (text) => JSON.parse(text),
        print: (value) => JSON.stringify(value)
      })
      const cyclic: Record<string, unknown> = {}
      cyclic["self"] = cyclic
      for (const value of [1n, cyclic, undefined]) {
        const error = yield* Effect.flip(anything.encode(value))
        assert.deepInclude(error.reason, { _tag: "Unrepresentable", format: "JSON" })
        assert.isAtMost(error.message.length, 400)
      }
    }))

  it.effect("prepare encodes once for all, in the format's type of message", () =>
    Effect.gen(function*() {
      const moved = yield* chat.prepare({ _tag: "Move", x: 1, y: 2 })
      assert.isTrue(Message.isPrepared(moved))
      assert.strictEqual(moved.message, `{"_tag":"Move","x":1,"y":2}`)
      assert.deepStrictEqual((yield* numbers.prepare(1)).message, new Uint8Array(Float64Array.of(1).buffer))
      assert.strictEqual((yield* Effect.flip(chat.prepare({ _tag: "Move", x: 1, y: 0.5 })))._tag, "EncodeError")
    }))
})

describe("schemas", () => {
  it("that need no effect are decoded and encoded at once", () => {
    assert.isTrue(Exit.isExit(chat.decode(`{"_tag":"Move","x":1,"y":2}`)))
    assert.isTrue(Exit.isExit(chat.decode(`{"_tag":"Move","x":1}`)))
    assert.isTrue(Exit.isExit(chat.decode("{")))
    assert.isTrue(Exit.isExit(chat.encode({ _tag: "Say", text: "", at: epoch, picture: new Uint8Array(1) })))
  })

  class Names extends Context.Service<Names, { readonly of: (id: number) => string | undefined }>()("Names") {}

  const Named = Schema.Int.pipe(Schema.decodeTo(Schema.String, {
    decode: SchemaGetter.transformEffect((id, options) =>
      Effect.gen(function*() {
        const { of } = yield* Names
        yield* Effect.yieldNow
        return of(id) ?? (yield* Effect.fail(new SchemaIssue.InvalidValue({ expected: "a known id" }, id, options)))
      })
    ),
    encode: SchemaGetter.forbidden(() => "names are not sent")
  }))
  const names = Layer.succeed(Names, { of: (id) => id === 1 ? "Ada" : undefined })

  it.effect("that need services and time get them", () =>
    Effect.gen(function*() {
      const named = MessageCodec.json(Named)
      assert.strictEqual(yield* named.decode("1"), "Ada")
      const error = yield* Effect.flip(named.decode("2"))
      assert.deepInclude(error.reason, { _tag: "Mismatch", detail: "Expected a known id" })
      assert.strictEqual((yield* Effect.flip(named.encode("Ada")))._tag, "EncodeError")
    }).pipe(Effect.provide(names)))
})
