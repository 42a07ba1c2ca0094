import {
  equalsIgnoreCase,
  type Extension,
  formatExtensions,
  isToken,
  parseExtensions,
  parseTokens
} from "@effect-ws/core/protocol/ExtensionHeader"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

const tokenCharacters = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

const token = Arbitrary.array(Arbitrary.schema(Schema.Literals([...tokenCharacters])), { minLength: 1, maxLength: 8 })
  .pipe(Arbitrary.map((characters) => characters.join("")))

const parameter = Arbitrary.all([token, Arbitrary.array(token, { maxLength: 1 })]).pipe(
  Arbitrary.map(([name, values]): readonly [string, string | undefined] => [name, values[0]])
)

const extension = Arbitrary.all([token, Arbitrary.array(parameter, { maxLength: 4 })]).pipe(
  Arbitrary.map(([name, parameters]): Extension => ({ name, parameters }))
)

// Text that looks like a header, so that it gets further into the grammar than random characters do.
const headerLike = Arbitrary.array(
  Arbitrary.schema(Schema.Literals([
    "a",
    "permessage-deflate",
    ",",
    ";",
    "=",
    "\"",
    "\\",
    " ",
    "\t",
    "\"a\"",
    "; b=",
    "\u0000",
    "\u00e9",
    "\ud800"
  ])),
  { maxLength: 24 }
).pipe(Arbitrary.map((parts) => parts.join("")))

describe("ExtensionHeader", () => {
  describe("isToken", () => {
    it("RFC 7230 §3.2.6: exactly the tchars are the one-character tokens", () => {
      for (let code = 0; code < 0x180; code++) {
        const character = String.fromCharCode(code)
        assert.strictEqual(isToken(character), tokenCharacters.includes(character), `code ${code}`)
      }
    })

    it("§4.1: the separators of RFC 2616 are not in a token", () => {
      for (const separator of "()<>@,;:\\\"/[]?={} \t") assert.isFalse(isToken(`a${separator}b`), separator)
    })

    it("RFC 7230 §3.2.6: a token is not empty", () => {
      assert.isFalse(isToken(""))
    })
  })

  describe("equalsIgnoreCase", () => {
    it.each([
      ["WebSocket", "websocket", true],
      ["", "", true],
      ["websocket", "websockets", false],
      ["[", "{", false],
      ["@", "`", false],
      ["websoc\u212aet", "websocket", false],
      ["\u00c9", "\u00e9", false]
    ])("§2.1: %j and %j: %s", (a, b, equal) => {
      assert.strictEqual(equalsIgnoreCase(a, b), equal)
      assert.strictEqual(equalsIgnoreCase(b, a), equal)
    })
  })

  describe("parseExtensions", () => {
    it.each<[string, ReadonlyArray<Extension>]>([
      // The examples of §9.1.
      ["foo", [{ name: "foo", parameters: [] }]],
      ["bar; baz=2", [{ name: "bar", parameters: [["baz", "2"]] }]],
      ["foo, bar; baz=2", [{ name: "foo", parameters: [] }, { name: "bar", parameters: [["baz", "2"]] }]],
      ["deflate-stream", [{ name: "deflate-stream", parameters: [] }]],
      [
        "mux; max-channels=4; flow-control, deflate-stream",
        [
          { name: "mux", parameters: [["max-channels", "4"], ["flow-control", undefined]] },
          { name: "deflate-stream", parameters: [] }
        ]
      ],
      ["private-extension", [{ name: "private-extension", parameters: [] }]],
      // RFC 7692 §7.1.3: the same extension offered twice.
      [
        "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate",
        [
          {
            name: "permessage-deflate",
            parameters: [["client_max_window_bits", undefined], ["server_max_window_bits", "10"]]
          },
          { name: "permessage-deflate", parameters: [] }
        ]
      ]
    ])("§9.1: reads %j", (header, expected) => {
      assert.deepStrictEqual(parseExtensions(header), expected)
    })

    it.each([
      ["a;b=\"10\"", "10"],
      ["a;b=\"1\\0\"", "10"],
      ["a;b=\"\\1\\0\"", "10"]
    ])("§9.1: a quoted value is unescaped: %j", (header, value) => {
      assert.deepStrictEqual(parseExtensions(header), [{ name: "a", parameters: [["b", value]] }])
    })

    it.each([
      "a;b=\"\"",
      "a;b=\"1 0\"",
      "a;b=\"1,0\"",
      "a;b=\"1;0\"",
      "a;b=\"\\\"\"",
      "a;b=\"\\\\\"",
      "a;b=\"\\ \"",
      "a;b=\"\u00e9\""
    ])("§9.1: a quoted value that is not a token is malformed: %j", (header) => {
      assert.isUndefined(parseExtensions(header))
    })

    it.each([
      "a;b=1",
      "a; b=1",
      " \ta\t;\tb\t=\t1\t ",
      "a ; b = \"1\" "
    ])("§9.1 (RFC 2616 implied LWS): white space may stand between tokens: %j", (header) => {
      assert.deepStrictEqual(parseExtensions(header), [{ name: "a", parameters: [["b", "1"]] }])
    })

    it.each([
      "a,b",
      ",a,b",
      "a,,b",
      "a, , b",
      "a,b,",
      " , ,\t,a ,, b , ,"
    ])("RFC 7230 §7: empty list elements are ignored: %j", (header) => {
      assert.deepStrictEqual(parseExtensions(header), [{ name: "a", parameters: [] }, { name: "b", parameters: [] }])
    })

    it.each([
      "",
      " ",
      ",",
      " , ,\t",
      ";",
      "=",
      "a;",
      "a; ;b",
      "a;,b",
      "a;=1",
      "a;b=",
      "a;b=,c",
      "a;b==1",
      "a;b=1 2",
      "a b",
      "a=1",
      "\"a\"",
      "a;\"b\"=1",
      "a;b=\"1",
      "a;b=\"1\\",
      "a;b=\"1\\\"",
      "a;b=1\"2\"",
      "a;b=\"1\"2",
      "a;b='1 2'",
      "a/b",
      "a\r\nb",
      "a\u0000",
      "\u00e9",
      "a\u00a0"
    ])("§9.1: undefined for malformed %j", (header) => {
      assert.isUndefined(parseExtensions(header))
    })

    it("§9.1: names that objects inherit are names like any other", () => {
      assert.deepStrictEqual(parseExtensions("__proto__; constructor=toString"), [
        { name: "__proto__", parameters: [["constructor", "toString"]] }
      ])
    })

    it("a megabyte of hostile text is read in linear time", () => {
      const length = 1 << 20
      assert.isUndefined(parseExtensions(",".repeat(length)))
      assert.isUndefined(parseExtensions(" ".repeat(length)))
      assert.isUndefined(parseExtensions(`a${" ".repeat(length)}b`))
      assert.isUndefined(parseExtensions(`a;b="${"\\a".repeat(length / 2)}`))
      assert.isUndefined(parseExtensions(`${"a".repeat(length)}/`))
      assert.strictEqual(parseExtensions("a,".repeat(length / 2))?.length, length / 2)
      assert.strictEqual(parseExtensions(`a${";b".repeat(length / 2)}`)?.[0].parameters.length, length / 2)
    })

    it.prop("§9.1: what is formatted is read back", { extensions: Arbitrary.array(extension, { minLength: 1 }) }, (
      { extensions }
    ) => {
      assert.deepStrictEqual(parseExtensions(formatExtensions(extensions)), extensions)
    })

    it.prop("any string is read or is malformed, never thrown at", [Schema.String], ([header]) => {
      parseExtensions(header)
      parseTokens(header)
    })

    it.prop("§9.1: what is read holds tokens only and survives formatting", [headerLike], ([header]) => {
      const extensions = parseExtensions(header)
      if (extensions === undefined) return
      assert.isNotEmpty(extensions)
      for (const { name, parameters } of extensions) {
        assert.isTrue(isToken(name))
        for (const [key, value] of parameters) assert.isTrue(isToken(key) && (value === undefined || isToken(value)))
      }
      assert.deepStrictEqual(parseExtensions(formatExtensions(extensions)), extensions)
    }, { arbitrary: { runs: 1000 } })
  })

  describe("formatExtensions", () => {
    it("§9.1: elements are separated by commas, parameters by semicolons, values are unquoted", () => {
      assert.strictEqual(
        formatExtensions([
          { name: "mux", parameters: [["max-channels", "4"], ["flow-control", undefined]] },
          { name: "deflate-stream", parameters: [] }
        ]),
        "mux; max-channels=4; flow-control, deflate-stream"
      )
    })
  })

  describe("parseTokens", () => {
    it.each<[string, ReadonlyArray<string>]>([
      ["chat", ["chat"]],
      ["chat, superchat", ["chat", "superchat"]],
      ["chat,superchat", ["chat", "superchat"]],
      [" , chat\t,, superchat ,", ["chat", "superchat"]],
      ["v1.ocpp", ["v1.ocpp"]]
    ])("§4.3: reads %j", (header, expected) => {
      assert.deepStrictEqual(parseTokens(header), expected)
    })

    it("§4.1: duplicates and case are kept as they came", () => {
      assert.deepStrictEqual(parseTokens("chat, Chat, chat"), ["chat", "Chat", "chat"])
    })

    it.each(["", " ", ",", "a b", "a;b", "soap/1.1", "\"chat\"", "chat\u0000", "ch\u00e4t"])(
      "§4.3: undefined for malformed %j",
      (header) => {
        assert.isUndefined(parseTokens(header))
      }
    )

    it.prop(
      "§4.3: a list of tokens is read back",
      { tokens: Arbitrary.array(token, { minLength: 1 }) },
      ({ tokens }) => {
        assert.deepStrictEqual(parseTokens(tokens.join(", ")), tokens)
      }
    )
  })
})
