/**
 * RFC 6455, section 5.4.
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
  text
} from "../../ConformanceRule.ts"
import { bytesOf, more, pattern } from "../../Wire.ts"

const section = "5.4"

const accepted: ReadonlyArray<Rule> = [
  {
    section,
    title: "fragments are one message, in the order sent",
    steps: [text("a", more), continuation("b", more), continuation("c")],
    outcome: takes({ messages: ["abc"] })
  },
  {
    section,
    title: "the first fragment tells the type of the message",
    steps: [text("a", more), continuation("b"), binary([0xff], more), continuation([0xfe])],
    outcome: takes({ messages: ["ab", Uint8Array.of(0xff, 0xfe)] })
  },
  {
    section,
    title: "the first fragment may be empty",
    steps: [text("", more), continuation("a")],
    outcome: takes({ messages: ["a"] })
  },
  {
    section,
    title: "a fragment in the middle may be empty",
    steps: [text("a", more), continuation("", more), continuation("b")],
    outcome: takes({ messages: ["ab"] })
  },
  {
    section,
    title: "the last fragment may be empty",
    steps: [text("a", more), continuation()],
    outcome: takes({ messages: ["a"] })
  },
  {
    section,
    title: "empty fragments make an empty message, text or binary",
    steps: [text("", more), continuation("", more), continuation(), binary("", more), continuation()],
    outcome: takes({ messages: ["", new Uint8Array(0)] })
  },
  {
    section,
    title: "a message has as many fragments as bytes",
    steps: [binary("", more), ...Array.from(pattern(200), (byte) => continuation([byte], more)), continuation()],
    outcome: takes({ messages: [pattern(200)] })
  },
  {
    section,
    title: "fragments may be long",
    steps: [binary(pattern(40_000), more), continuation(pattern(30_000))],
    outcome: takes({ messages: [bytesOf([...pattern(40_000), ...pattern(30_000)])] })
  },
  {
    section,
    title: "an unfinished message is not delivered",
    steps: [text("a"), text("b", more), continuation("c", more)],
    outcome: takes({ messages: ["a"] })
  },
  {
    section,
    title: "control frames may come between fragments and do not wait for the message",
    steps: [text("a", more), ping("1"), pong("2"), continuation("", more), ping("3")],
    outcome: takes({ events: [pinged("1"), ponged("2"), pinged("3")] })
  },
  {
    section,
    title: "a message with control frames between its fragments is whole",
    steps: [text("a", more), ping("1"), continuation("b", more), ping(), pong("2"), continuation("c"), text("d")],
    outcome: takes({ messages: ["abc", "d"], events: [pinged("1"), pinged(), ponged("2")] })
  },
  {
    section,
    title: "a Close between fragments ends the message unseen",
    steps: [text("a", more), close(1000), continuation("b")],
    outcome: takes({ events: [closed(1000)], state: "CloseReceived" })
  },
  {
    section,
    title: "unfragmented messages may follow a fragmented one",
    steps: [text("a", more), continuation("b"), text("c"), binary([1])],
    outcome: takes({ messages: ["ab", "c", Uint8Array.of(1)] })
  }
]

const broken: ReadonlyArray<Rule> = [
  {
    section,
    title: "there is nothing to continue at the start",
    steps: [continuation("", { announced: 5 })],
    outcome: fails(1002)
  },
  {
    section,
    title: "there is nothing to continue at the start, with more to come",
    steps: [continuation("", more)],
    outcome: fails(1002)
  },
  {
    section,
    title: "there is nothing to continue after a whole message",
    steps: [text("a"), continuation()],
    outcome: fails(1002, { messages: ["a"] })
  },
  {
    section,
    title: "there is nothing to continue after the last fragment",
    steps: [text("a", more), continuation("b"), continuation()],
    outcome: fails(1002, { messages: ["ab"] })
  },
  {
    section,
    title: "there is nothing to continue after a control frame",
    steps: [ping(), continuation()],
    outcome: fails(1002, { events: [pinged()] })
  },
  ...[text, binary].flatMap((opening) =>
    [text, binary].flatMap((intruding) =>
      [true, false].map((fin): Rule => ({
        section,
        title: `fragments of two messages are not interleaved: ${opening === text ? "text" : "binary"}, then ${
          intruding === text ? "text" : "binary"
        }, ${fin ? "final" : "not final"}`,
        steps: [opening("a", more), ping(), intruding("", { announced: 5, fin })],
        outcome: fails(1002, { events: [pinged()] })
      }))
    )
  ),
  {
    section,
    title: "a new message may not come before the last fragment, however many there were",
    steps: [text("a", more), continuation("b", more), continuation("", more), text("", { announced: 1 })],
    outcome: fails(1002)
  }
]

export const fragmentation: ReadonlyArray<Rule> = [...accepted, ...broken]
