import { formatExtensions, parseExtensions } from "@effect-ws/core/protocol/ExtensionHeader"
import {
  accept,
  agree,
  type Direction,
  offer,
  type Parameters,
  type WindowBits
} from "@effect-ws/core/protocol/PerMessageDeflate"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

const direction = (contextTakeover: boolean, windowBits: WindowBits = 15): Direction => ({
  contextTakeover,
  windowBits
})

const takeover: Parameters = { sending: direction(true), receiving: direction(true) }
const noTakeover: Parameters = { sending: direction(false), receiving: direction(false) }
const narrow: Parameters = { sending: direction(true, 10), receiving: direction(true, 11) }

// In the tables, `*` stands for the name of the extension and s, c for the beginning of its parameters.
const names = {
  "*": "permessage-deflate",
  "s_nct": "server_no_context_takeover",
  "c_nct": "client_no_context_takeover",
  "s_bits": "server_max_window_bits",
  "c_bits": "client_max_window_bits"
}
const written = (short: string): string =>
  short.replaceAll(/\*|[sc]_(?:nct|bits)/g, (name) => names[name as keyof typeof names])

const shown = ({ receiving, sending }: Parameters): string =>
  [sending, receiving].map(({ contextTakeover, windowBits }) =>
    `${contextTakeover ? "takeover" : "none"} ${windowBits}`
  )
    .join(", ")

/** The server's response and what it has agreed to send and receive. */
const answer = (offers: string, wanted: Parameters): readonly [response: string, agreed: string] | undefined => {
  const accepted = accept(parseExtensions(written(offers)) ?? [], wanted)
  return accepted && [formatExtensions([accepted.response]), shown(accepted.agreed)]
}

const assertAnswer = (offers: string, wanted: Parameters, response: string | undefined, agreed = "") =>
  assert.deepStrictEqual(answer(offers, wanted), response === undefined ? undefined : [written(response), agreed])

describe("a server answers an offer", () => {
  const accepted: ReadonlyArray<
    readonly [section: string, offers: string, wanted: Parameters, response: string, agreed: string]
  > = [
    ["7.1", "*", takeover, "*", "takeover 15, takeover 15"],
    ["7.1.1.1", "*; s_nct", takeover, "*; s_nct", "none 15, takeover 15"],
    ["7.1.1.1", "*", noTakeover, "*; s_nct; c_nct", "none 15, none 15"],
    ["7.1.1.2", "*; c_nct", takeover, "*; c_nct", "takeover 15, none 15"],
    ["7.1.2.1", "*; s_bits=10", takeover, "*; s_bits=10", "takeover 10, takeover 15"],
    ["7.1.2.1", "*; s_bits=8", takeover, "*; s_bits=8", "takeover 8, takeover 15"],
    ["7.1.2.1", "*; s_bits=15", takeover, "*; s_bits=15", "takeover 15, takeover 15"],
    ["7.1.2.1", "*; s_bits=\"9\"", takeover, "*; s_bits=9", "takeover 9, takeover 15"],
    ["7.1.2.1", "*; s_bits=12; c_bits", narrow, "*; s_bits=10; c_bits=11", "takeover 10, takeover 11"],
    ["7.1.2.1", "*; s_bits=9; c_bits", narrow, "*; s_bits=9; c_bits=11", "takeover 9, takeover 11"],
    ["7.1.2.1", "*; c_bits", narrow, "*; s_bits=10; c_bits=11", "takeover 10, takeover 11"],
    ["7.1.2.2", "*; c_bits", takeover, "*", "takeover 15, takeover 15"],
    ["7.1.2.2", "*; c_bits=8", takeover, "*; c_bits=8", "takeover 15, takeover 8"],
    ["7.1.2.2", "*; c_bits=10", narrow, "*; s_bits=10; c_bits=10", "takeover 10, takeover 10"],
    ["7.1.2.2", "*; c_bits=15", takeover, "*", "takeover 15, takeover 15"],
    // The response must not limit a client that does not say it can be limited.
    ["7.1.2.2", "*", narrow, "*; c_nct; s_bits=10", "takeover 10, none 15"],
    // All at once, and the examples of section 7.1.3: the first offer that can be kept.
    ["7.1", "*; c_bits=9; s_bits=9; c_nct; s_nct", takeover, "*; s_nct; c_nct; s_bits=9; c_bits=9", "none 9, none 9"],
    ["7.1.3", "*; c_bits; s_bits=10", takeover, "*; s_bits=10", "takeover 10, takeover 15"],
    ["7.1.3", "*; s_bits=10, *", takeover, "*; s_bits=10", "takeover 10, takeover 15"],
    ["5.1", "*; s_bits=7, *; s_nct", takeover, "*; s_nct", "none 15, takeover 15"],
    ["5.1", "x-other, *; unknown, *", takeover, "*", "takeover 15, takeover 15"]
  ]

  it.each(accepted)("§%s: %s", (_section, offers, wanted, response, agreed) => {
    assertAnswer(offers, wanted, response, agreed)
  })

  const declined = [
    "*; unknown",
    "*; server_max_window_bit=10",
    "*; s_nct; s_nct",
    "*; c_nct; c_nct",
    "*; s_bits=10; s_bits=10",
    "*; c_bits; c_bits=10",
    "*; s_nct=1",
    "*; c_nct=true",
    "*; s_bits",
    ...["7", "16", "0", "08", "+9", "9.0", "9a", "a", "150", "1"].flatMap((bits) => [
      `*; s_bits=${bits}`,
      `*; c_bits=${bits}`
    ]),
    "x-other",
    "permessage-bzip2",
    "*; unknown, *; s_bits=7"
  ]

  it("§5.1: takes the first that it can keep of however many", () => {
    const offers = [...Array.from({ length: 10_000 }, () => "*; unknown"), "*; s_bits=9", "*"]
    assertAnswer(offers.join(", "), takeover, "*; s_bits=9", "takeover 9, takeover 15")
  })

  it.each(declined)("§7.1: %s is declined", (offers) => assertAnswer(offers, takeover, undefined))
})

describe("a client offers", () => {
  const offers: ReadonlyArray<readonly [wanted: Parameters, offer: string]> = [
    [takeover, "*; c_bits"],
    [noTakeover, "*; s_nct; c_nct; c_bits"],
    [{ sending: direction(true), receiving: direction(false) }, "*; s_nct; c_bits"],
    [{ sending: direction(false), receiving: direction(true) }, "*; c_nct; c_bits"],
    [narrow, "*; s_bits=11; c_bits=10"],
    [{ sending: direction(false, 8), receiving: direction(false, 9) }, "*; s_nct; c_nct; s_bits=9; c_bits=8"]
  ]

  it.each(offers)("§7.1: %j", (wanted, expected) => {
    assert.strictEqual(formatExtensions([offer(wanted)]), written(expected))
  })
})

describe("a client reads the response", () => {
  const read = (response: string, wanted: Parameters) => agree(parseExtensions(written(response)) ?? [], wanted)

  const agreed: ReadonlyArray<
    readonly [section: string, response: string, wanted: Parameters, agreed: string]
  > = [
    ["7.1", "*", takeover, "takeover 15, takeover 15"],
    ["7.1.1.1", "*; s_nct", takeover, "takeover 15, none 15"],
    ["7.1.1.1", "*; s_nct", noTakeover, "none 15, none 15"],
    ["7.1.1.2", "*; c_nct", takeover, "none 15, takeover 15"],
    ["7.1.2.1", "*; s_bits=8", takeover, "takeover 15, takeover 8"],
    ["7.1.2.1", "*; s_bits=11", narrow, "takeover 10, takeover 11"],
    ["7.1.2.1", "*; s_bits=9", narrow, "takeover 10, takeover 9"],
    ["7.1.2.2", "*; c_bits=8", takeover, "takeover 8, takeover 15"],
    ["7.1.2.2", "*; c_bits=12; s_bits=11", narrow, "takeover 10, takeover 11"],
    ["7.1", "x-other, *; c_nct; s_nct; c_bits=9; s_bits=9", takeover, "none 9, none 9"]
  ]

  it.each(agreed)("§%s: %s", (_section, response, wanted, expected) => {
    const result = read(response, wanted)
    if (result === undefined || "_tag" in result) return assert.fail(JSON.stringify(result))
    assert.strictEqual(shown(result), expected)
  })

  it("§5.1: no permessage-deflate in it means no compression", () => {
    assert.isUndefined(agree([], takeover))
    assert.isUndefined(read("x-other", noTakeover))
  })

  const failing: ReadonlyArray<readonly [response: string, wanted: Parameters]> = [
    ["*; unknown", takeover],
    ["*; s_nct; s_nct", takeover],
    ["*; c_nct=1", takeover],
    ["*; s_bits", takeover],
    ["*; c_bits", takeover],
    ["*; s_bits=7", takeover],
    ["*; s_bits=16", takeover],
    ["*; c_bits=08", takeover],
    ["*, *", takeover],
    // Asked for, and not granted.
    ["*", noTakeover],
    ["*; c_nct", noTakeover],
    ["*", narrow],
    ["*; s_bits=12", narrow]
  ]

  it.each(failing)("§7.1: %s fails the connection", (response, wanted) => {
    const result = read(response, wanted)
    assert.isTrue(result !== undefined && "_tag" in result)
  })
})

const anyDirection = Arbitrary.schema(Schema.Struct({
  contextTakeover: Schema.Boolean,
  windowBits: Schema.Literals([8, 9, 10, 11, 12, 13, 14, 15])
}))
const anyParameters = Arbitrary.all([anyDirection, anyDirection]).pipe(
  Arbitrary.map(([sending, receiving]): Parameters => ({ sending, receiving }))
)

describe("any client and any server", () => {
  it.prop("§7.1: agree, each on no more than it wants", { client: anyParameters, server: anyParameters }, (wanted) => {
    const { client, server } = wanted
    const header = formatExtensions([offer(client)])
    const accepted = accept(parseExtensions(header) ?? [], server)
    if (accepted === undefined) return assert.fail(header)
    const response = parseExtensions(formatExtensions([accepted.response]))
    const agreed = agree(response ?? [], client)
    if (agreed === undefined || "_tag" in agreed) return assert.fail(JSON.stringify(agreed))
    // What one may send, the other is prepared to receive.
    for (const [sender, receiver] of [[agreed, accepted.agreed], [accepted.agreed, agreed]] as const) {
      assert.isAtMost(sender.sending.windowBits, receiver.receiving.windowBits)
      assert.isFalse(sender.sending.contextTakeover && !receiver.receiving.contextTakeover)
    }
    for (const [own, wanted] of [[agreed, client], [accepted.agreed, server]] as const) {
      for (const side of ["sending", "receiving"] as const) {
        assert.isAtMost(own[side].windowBits, wanted[side].windowBits)
        assert.isFalse(own[side].contextTakeover && !wanted[side].contextTakeover)
      }
    }
  }, { arbitrary: { runs: 2000 } })

  it.prop("§7.1: no header makes the negotiation throw", {
    parameters: Arbitrary.array(
      Arbitrary.schema(Schema.Struct({
        name: Schema.Literals([...Object.values(names), "x", "__proto__"]),
        value: Schema.UndefinedOr(Schema.Literals(["7", "8", "15", "16", "08", ""]))
      })),
      { maxLength: 5 }
    ),
    wanted: anyParameters
  }, ({ parameters, wanted }) => {
    const extension = {
      name: "permessage-deflate",
      parameters: parameters.map(({ name, value }) => [name, value] as const)
    }
    accept([extension], wanted)
    agree([extension], wanted)
  }, { arbitrary: { runs: 500 } })
})
