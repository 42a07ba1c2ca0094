/**
 * RFC 6455, sections 5.6 and 8.1; what UTF-8 is, says RFC 3629.
 */
import { binary, continuation, fails, ping, pinged, type Rule, takes, text } from "../../ConformanceRule.ts"
import { bytesOf, more } from "../../Wire.ts"

const euro = [0xe2, 0x82, 0xac]
const clef = [0xf0, 0x9d, 0x84, 0x9e]
const longText = Array.from({ length: 40 }, () => euro).flat()

// The first and the last character of each length, and their neighbours around the surrogates.
const wellFormed: ReadonlyArray<readonly [string, string]> = [
  ["nothing", ""],
  ["U+0000", "\u0000"],
  ["U+007F", "\u007f"],
  ["U+0080", "\u0080"],
  ["U+07FF", "\u07ff"],
  ["U+0800", "\u0800"],
  ["U+D7FF", "\ud7ff"],
  ["U+E000", "\ue000"],
  ["a noncharacter", "\uffff"],
  ["U+10000", "\u{10000}"],
  ["U+10FFFF", "\u{10ffff}"],
  ["a byte-order mark alone", "\ufeff"],
  ["a byte-order mark before text", "\ufeffa"],
  ["a mixture", "Hello-µ@ßöäüàá-€-𝄞"],
  ["long", "µ€𝄞a".repeat(30)]
]

// Each ends in the byte that no text goes on with.
const illFormed: ReadonlyArray<readonly [string, ReadonlyArray<number>]> = [
  ["a continuation byte without a lead", [0x80]],
  ["the last continuation byte without a lead", [0xbf]],
  ["C0, the lead of overlong forms only", [0xc0]],
  ["C1, the lead of overlong forms only", [0xc1]],
  ["an overlong form of three bytes", [0xe0, 0x9f]],
  ["an overlong form of four bytes", [0xf0, 0x8f]],
  ["the first surrogate", [0xed, 0xa0]],
  ["the last surrogate", [0xed, 0xbf]],
  ["a character above U+10FFFF", [0xf4, 0x90]],
  ["F5, the lead of nothing", [0xf5]],
  ["F8, once the lead of five bytes", [0xf8]],
  ["FE", [0xfe]],
  ["FF", [0xff]],
  ["ASCII for the second of two bytes", [0xc2, 0x41]],
  ["a lead for the second of two bytes", [0xc2, 0xc2]],
  ["ASCII for the third of three bytes", [0xe2, 0x82, 0x41]],
  ["a lead for the third of three bytes", [0xe2, 0x82, 0xe2]],
  ["ASCII for the last of four bytes", [0xf0, 0x9d, 0x84, 0x41]],
  ["a continuation byte after a whole character", [...euro, 0x80]]
]

const truncated: ReadonlyArray<readonly [string, ReadonlyArray<number>]> = [
  ["one of two bytes", [0xc2]],
  ["one of three bytes", euro.slice(0, 1)],
  ["two of three bytes", euro.slice(0, 2)],
  ["one of four bytes", clef.slice(0, 1)],
  ["two of four bytes", clef.slice(0, 2)],
  ["three of four bytes", clef.slice(0, 3)],
  ["two of three bytes, after much", [...longText, ...euro.slice(0, 2)]]
]

const accepted: ReadonlyArray<Rule> = [
  ...wellFormed.map(([what, payload]): Rule => ({
    section: "5.6",
    title: `text may be ${what}, and is kept as it is`,
    steps: [text(payload)],
    outcome: takes({ messages: [payload] })
  })),
  ...wellFormed.map(([what, payload]): Rule => ({
    section: "5.6",
    title: `fragmented text may be ${what}, cut anywhere`,
    steps: [text("", more), ...Array.from(bytesOf(payload), (byte) => continuation([byte], more)), continuation()],
    outcome: takes({ messages: [payload] })
  })),
  {
    section: "5.6",
    title: "a fragment need not be text by itself",
    steps: [text(euro.slice(0, 1), more), ping(euro.slice(1)), continuation(euro.slice(1))],
    outcome: takes({ messages: ["€"], events: [pinged(euro.slice(1))] })
  },
  ...illFormed.map(([what, payload]): Rule => ({
    section: "5.6",
    title: `binary may be anything: ${what}`,
    steps: [binary(payload), binary(payload, more), continuation(payload)],
    outcome: takes({ messages: [bytesOf(payload), bytesOf([...payload, ...payload])] })
  }))
]

const refused: ReadonlyArray<Rule> = [
  ...illFormed.flatMap(([what, payload]): ReadonlyArray<Rule> => [
    {
      section: "8.1",
      title: `text is not UTF-8, at its end: ${what}`,
      steps: [text([...euro, ...payload])],
      outcome: fails(1007)
    },
    {
      section: "8.1",
      title: `text fails at the bad byte, before the frame is whole: ${what}`,
      steps: [text([...euro, ...payload], { announced: 100 })],
      outcome: fails(1007)
    },
    {
      section: "8.1",
      title: `long text fails at the bad byte, before the frame is whole: ${what}`,
      steps: [text([...longText, ...payload], { announced: 1000 })],
      outcome: fails(1007)
    },
    {
      section: "8.1",
      title: `text fails at the bad byte, before the message is whole: ${what}`,
      steps: [text(clef, more), continuation(payload, { fin: false, announced: 70_000 })],
      outcome: fails(1007)
    }
  ]),
  ...illFormed.filter(([, payload]) => payload.length > 1).map(([what, payload]): Rule => ({
    section: "8.1",
    title: `text fails at the bad byte, although its character began in another fragment: ${what}`,
    steps: [
      text(payload.slice(0, 1), more),
      ping(),
      ...payload.slice(1, -1).map((byte) => continuation([byte], more)),
      continuation(payload.slice(-1), { announced: 2 })
    ],
    outcome: fails(1007, { events: [pinged()] })
  })),
  ...truncated.flatMap(([what, payload]): ReadonlyArray<Rule> => [
    {
      section: "8.1",
      title: `text may not end in ${what}`,
      steps: [text([0x61, ...payload])],
      outcome: fails(1007)
    },
    {
      section: "8.1",
      title: `fragmented text may not end in ${what}`,
      steps: [text([0x61], more), continuation(payload, more), continuation()],
      outcome: fails(1007)
    }
  ]),
  {
    section: "8.1",
    title: "the text before is delivered",
    steps: [text("a"), text([0x62, 0xff], { announced: 3 })],
    outcome: fails(1007, { messages: ["a"] })
  }
]

export const textual: ReadonlyArray<Rule> = [...accepted, ...refused]
