/**
 * What an endpoint may refuse although it is well-formed: RFC 6455, sections 7.4.1 (codes 1008 and 1009) and 10.4.
 */
import {
  binary,
  close,
  closed,
  continuation,
  fails,
  ping,
  pinged,
  pong,
  ponged,
  type Rule,
  takes,
  text,
  wait
} from "../../ConformanceRule.ts"
import { more } from "../../Wire.ts"

const section = "7.4.1"
const limits = { maxMessageBytes: 16, maxFragments: 3, maxControlFramesPerSecond: 3 }

const sizes: ReadonlyArray<Rule> = [
  {
    section,
    title: "a message may be as long as the limit",
    limits,
    steps: [text("a".repeat(16)), text("é".repeat(8))],
    outcome: takes({ messages: ["a".repeat(16), "é".repeat(8)] })
  },
  ...[17, 125, 126, 65_535, 65_536, 2 ** 32, 2 ** 40, 2 ** 53, 2 ** 62].flatMap((announced): ReadonlyArray<Rule> => [
    {
      section,
      title: `a message of ${announced} bytes is refused at its header`,
      limits,
      steps: [binary("", { announced })],
      outcome: fails(1009)
    },
    {
      section,
      title: `a fragment of ${announced} bytes is refused at its header`,
      limits,
      steps: [text("", more), continuation("", { announced, fin: false })],
      outcome: fails(1009)
    }
  ]),
  {
    section,
    title: "the limit counts bytes, not characters",
    limits,
    steps: [text("", { announced: new TextEncoder().encode("é".repeat(9)).length })],
    outcome: fails(1009)
  },
  {
    section,
    title: "fragments together may be as long as the limit",
    limits,
    steps: [text("a".repeat(10), more), ping(), continuation("b".repeat(6))],
    outcome: takes({ messages: ["a".repeat(10) + "b".repeat(6)], events: [pinged()] })
  },
  {
    section,
    title: "fragments together may not be longer than the limit, told by the header of the one too many",
    limits,
    steps: [binary("a".repeat(10), more), ping(), continuation("", { announced: 7 })],
    outcome: fails(1009, { events: [pinged()] })
  },
  {
    section,
    title: "each message has the limit for itself",
    limits,
    steps: [text("a".repeat(10), more), continuation("b"), text("c".repeat(16)), text("d", more), continuation("e")],
    outcome: takes({ messages: [`${"a".repeat(10)}b`, "c".repeat(16), "de"] })
  },
  {
    section,
    title: "a message of nothing passes a limit of nothing",
    limits: { maxMessageBytes: 0 },
    steps: [text(), binary("", more), continuation()],
    outcome: takes({ messages: ["", new Uint8Array(0)] })
  },
  {
    section,
    title: "a message of one byte does not",
    limits: { maxMessageBytes: 0 },
    steps: [text("", { announced: 1 })],
    outcome: fails(1009)
  },
  {
    section,
    title: "control frames are under no message limit",
    limits: { maxMessageBytes: 0 },
    steps: [ping("p".repeat(125)), close(1000, "r".repeat(123))],
    outcome: takes({ events: [pinged("p".repeat(125)), closed(1000, "r".repeat(123))], state: "CloseReceived" })
  }
]

const fragments: ReadonlyArray<Rule> = [
  {
    section,
    title: "a message may have as many fragments as the limit",
    limits,
    steps: [text("a", more), continuation("b", more), continuation("c")],
    outcome: takes({ messages: ["abc"] })
  },
  {
    section,
    title: "a message may not have more fragments than the limit, told by the header of the one too many",
    limits,
    steps: [text("a", more), continuation("b", more), continuation("c", more), continuation("", { announced: 1 })],
    outcome: fails(1008)
  },
  {
    section,
    title: "empty fragments count",
    limits,
    steps: [binary("", more), continuation("", more), continuation("", more), continuation("", more)],
    outcome: fails(1008)
  },
  {
    section,
    title: "control frames are no fragments",
    limits,
    steps: [text("a", more), ping(), continuation("b", more), pong(), continuation("c")],
    outcome: takes({ messages: ["abc"], events: [pinged(), ponged()] })
  },
  {
    section,
    title: "fragments are counted anew for each message",
    limits,
    steps: [0, 1].flatMap(() => [text("a", more), continuation("b", more), continuation("c")]),
    outcome: takes({ messages: ["abc", "abc"] })
  }
]

const three = [ping("1"), pong("2"), ping("3")]
const threeTaken = [pinged("1"), ponged("2"), pinged("3")]

const rates: ReadonlyArray<Rule> = [
  {
    section,
    title: "as many control frames as the limit may come at once",
    limits,
    steps: three,
    outcome: takes({ events: threeTaken })
  },
  ...[["Ping", ping()], ["Pong", pong()], ["Close", close(1000)]].map(([name, flooding]): Rule => ({
    section,
    title: `one ${name} more is too many`,
    limits,
    steps: [...three, flooding as Rule["steps"][number]],
    outcome: fails(1008, { events: threeTaken })
  })),
  {
    section,
    title: "control frames are counted for a second",
    limits,
    steps: [ping("1"), wait(400), pong("2"), wait(400), ping("3"), wait(199), pong("4")],
    outcome: fails(1008, { events: threeTaken })
  },
  {
    section,
    title: "a second later they may come again",
    limits,
    steps: [...three, wait(1000), ...three, wait(1000), ...three],
    outcome: takes({ events: [...threeTaken, ...threeTaken, ...threeTaken] })
  },
  {
    section,
    title: "a second later the count begins anew, it is not forgotten",
    limits,
    steps: [...three, wait(1000), ...three, wait(999), ping("4")],
    outcome: fails(1008, { events: [...threeTaken, ...threeTaken] })
  },
  {
    section,
    title: "a clock that is set back does not stretch the second",
    limits,
    steps: [...three, wait(-60_000), ...three, wait(1000), ...three],
    outcome: takes({ events: [...threeTaken, ...threeTaken, ...threeTaken] })
  },
  {
    section,
    title: "messages and fragments are under no rate limit",
    limits,
    steps: Array.from({ length: 50 }, () => [text("a"), binary("b", more), continuation("c")]).flat(),
    outcome: takes({ messages: Array.from({ length: 50 }, () => ["a", Uint8Array.of(0x62, 0x63)]).flat() })
  }
]

export const limited: ReadonlyArray<Rule> = [...sizes, ...fragments, ...rates]
