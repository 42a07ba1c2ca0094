/**
 * RFC 6455, section 5.5.
 */
import { Opcode } from "@effect-ws/core/protocol/Frame"
import {
  binary,
  close,
  closed,
  continuation,
  type Event,
  fails,
  frame,
  ping,
  pinged,
  pong,
  ponged,
  type Rule,
  sendClose,
  takes,
  text
} from "../../ConformanceRule.ts"
import { more, pattern } from "../../Wire.ts"

const controls = Object.entries({ close: Opcode.close, ping: Opcode.ping, pong: Opcode.pong })

const limits: ReadonlyArray<Rule> = [
  ...controls.flatMap(([name, opcode]) =>
    [126, 127].map((lengthField): Rule => ({
      section: "5.5",
      title: `a ${name} frame longer than 125 bytes is refused at its length, ${lengthField}`,
      steps: [frame(opcode, "", { announced: lengthField === 126 ? 126 : 65_536, upTo: 2 })],
      outcome: fails(1002)
    }))
  ),
  ...controls.map(([name, opcode]): Rule => ({
    section: "5.5",
    title: `a ${name} frame is not fragmented`,
    steps: [frame(opcode, "", { fin: false, upTo: 1 })],
    outcome: fails(1002)
  })),
  ...controls.map(([name, opcode]): Rule => ({
    section: "5.5",
    title: `a ${name} frame is not fragmented, not even inside a fragmented message`,
    steps: [text("a", more), frame(opcode, "", { fin: false, upTo: 1 })],
    outcome: fails(1002)
  }))
]

const pingsAndPongs: ReadonlyArray<Rule> = [
  ...[0, 1, 125].flatMap((length): ReadonlyArray<Rule> => [
    {
      section: "5.5.2",
      title: `a Ping of ${length} bytes is answered with its own payload`,
      steps: [ping(pattern(length))],
      outcome: takes({ events: [pinged(pattern(length))] })
    },
    {
      section: "5.5.3",
      title: `a Pong of ${length} bytes is not answered, asked for or not`,
      steps: [pong(pattern(length))],
      outcome: takes({ events: [ponged(pattern(length))] })
    }
  ]),
  {
    section: "5.5.2",
    title: "the payload of a Ping need not be text",
    steps: [ping([0xff, 0xc0, 0x00]), pong([0x80])],
    outcome: takes({ events: [pinged([0xff, 0xc0, 0x00]), ponged([0x80])] })
  },
  {
    section: "5.5.2",
    title: "every Ping is told, in order, among messages",
    steps: [ping("1"), text("a"), ping("2"), ping("2"), binary([1]), ping("3")],
    outcome: takes({
      messages: ["a", Uint8Array.of(1)],
      events: [pinged("1"), pinged("2"), pinged("2"), pinged("3")]
    })
  },
  {
    section: "5.5.2",
    title: "a Ping after the peer's Close is not answered",
    steps: [close(1000), ping("1")],
    outcome: takes({ events: [closed(1000)], state: "CloseReceived" })
  },
  {
    section: "5.5.1",
    title: "no Pong follows our own Close",
    steps: [ping("1"), sendClose, ping("2"), pong("3")],
    outcome: takes({ events: [pinged("1"), pinged("2", false), ponged("3")], state: "CloseSent" })
  }
]

const afterClose: ReadonlyArray<readonly [string, Rule["steps"]]> = [
  ["a text message", [text("a")]],
  ["a fragment", [text("a", more)]],
  ["a Pong", [pong()]],
  ["a second Close", [close(1001, "again")]],
  ["a second Close that is malformed", [close(1005)]],
  ["a reserved opcode", [frame(0x3)]],
  ["text that is not UTF-8", [text([0xff])]],
  ["half a frame", [text("abc", { upTo: 3 })]]
]

const first: Event = closed(1000, "bye")

const closes: ReadonlyArray<Rule> = [
  {
    section: "5.5.1",
    title: "what came before the Close counts",
    steps: [text("a"), ping("b"), binary([1]), close(1000, "bye")],
    outcome: takes({ messages: ["a", Uint8Array.of(1)], events: [pinged("b"), first], state: "CloseReceived" })
  },
  ...afterClose.flatMap(([what, steps]): ReadonlyArray<Rule> => [
    {
      section: "5.5.1",
      title: `${what} after the peer's Close is ignored`,
      steps: [close(1000, "bye"), ...steps],
      outcome: takes({ events: [first], state: "CloseReceived" })
    },
    {
      section: "5.5.1",
      title: `${what} after both Close frames is ignored, the peer's first`,
      steps: [close(1000, "bye"), sendClose, ...steps],
      outcome: takes({ events: [first], state: "Closed" })
    },
    {
      section: "5.5.1",
      title: `${what} after both Close frames is ignored, ours first`,
      steps: [sendClose, close(1000, "bye"), ...steps],
      outcome: takes({ events: [first], state: "Closed" })
    }
  ]),
  {
    section: "5.5.1",
    title: "the peer's messages still count after our own Close",
    steps: [sendClose, text("a"), binary([1], more), continuation([2]), close(1000, "bye")],
    outcome: takes({ messages: ["a", Uint8Array.of(1, 2)], events: [first], state: "Closed" })
  },
  {
    section: "5.5.1",
    title: "a fragmented message goes on over our own Close",
    steps: [text("a", more), sendClose, ping("b"), continuation("c")],
    outcome: takes({ messages: ["ac"], events: [pinged("b", false)], state: "CloseSent" })
  }
]

export const control: ReadonlyArray<Rule> = [...limits, ...pingsAndPongs, ...closes]
