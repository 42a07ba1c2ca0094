/**
 * RFC 6455, sections 5.5.1, 7.1 and 7.4.
 */
import { Opcode } from "@effect-ws/core/protocol/Frame"
import { close, closed, fails, frame, type Rule, sendClose, takes, text } from "../../ConformanceRule.ts"

// Section 7.4.1, and 1012 to 1014, which IANA registered later.
const registered = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]

const codes: ReadonlyArray<Rule> = [
  ...[...registered, 3000, 3999, 4000, 4999].map((code): Rule => ({
    section: "7.4",
    title: `${code} may be the code of a Close`,
    steps: [close(code)],
    outcome: takes({ events: [closed(code)], state: "CloseReceived" })
  })),
  ...[0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 0x8000, 65_535].map((code): Rule => ({
    section: "7.4",
    title: `${code} may not be the code of a Close`,
    steps: [close(code)],
    outcome: fails(1002)
  }))
]

const payloads: ReadonlyArray<Rule> = [
  {
    section: "7.1.5",
    title: "a Close without a code has none",
    steps: [close()],
    outcome: takes({ events: [closed()], state: "CloseReceived" })
  },
  {
    section: "5.5.1",
    title: "a Close has two bytes for its code, or none",
    steps: [frame(Opcode.close, [0x03])],
    outcome: fails(1002)
  },
  {
    section: "7.1.6",
    title: "the reason follows the code",
    steps: [close(1001, "going away")],
    outcome: takes({ events: [closed(1001, "going away")], state: "CloseReceived" })
  },
  {
    section: "7.1.6",
    title: "the reason may fill the frame",
    steps: [close(4000, "r".repeat(123))],
    outcome: takes({ events: [closed(4000, "r".repeat(123))], state: "CloseReceived" })
  },
  {
    section: "7.1.6",
    title: "the reason is UTF-8, a byte-order mark included",
    steps: [close(1000, "\ufeffµ€𝄞")],
    outcome: takes({ events: [closed(1000, "\ufeffµ€𝄞")], state: "CloseReceived" })
  },
  ...[[0xff], [0xc0, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0x61, 0xe2, 0x82]].map((reason): Rule => ({
    section: "8.1",
    title: `a reason that is not UTF-8 is refused: ${reason.map((byte) => byte.toString(16)).join(" ")}`,
    steps: [close(1000, reason)],
    outcome: fails(1007)
  })),
  {
    section: "7.4",
    title: "a bad code is refused before a bad reason",
    steps: [close(1005, [0xff])],
    outcome: fails(1002)
  }
]

const handshake: ReadonlyArray<Rule> = [
  {
    section: "7.1.4",
    title: "the peer's Close and our answer complete the closing handshake",
    steps: [close(1000), sendClose],
    outcome: takes({ events: [closed(1000)], state: "Closed" })
  },
  {
    section: "7.1.4",
    title: "our Close and the peer's answer complete the closing handshake",
    steps: [sendClose, close(1000)],
    outcome: takes({ events: [closed(1000)], state: "Closed" })
  },
  {
    section: "7.1.4",
    title: "our Close alone does not",
    steps: [text("a"), sendClose, text("b")],
    outcome: takes({ messages: ["a", "b"], state: "CloseSent" })
  }
]

const failing: ReadonlyArray<Rule> = [
  {
    section: "5.2",
    title: "once our Close is out, a broken rule is not answered with another",
    steps: [sendClose, text("a"), frame(0x3, "", { upTo: 1 })],
    outcome: fails(1002, { messages: ["a"], reply: false })
  },
  {
    section: "8.1",
    title: "once our Close is out, bad text still fails the connection",
    steps: [sendClose, text([0xff], { announced: 2 })],
    outcome: fails(1007, { reply: false })
  },
  {
    section: "7.4",
    title: "once our Close is out, a malformed Close does not complete the handshake",
    steps: [sendClose, close(1006)],
    outcome: fails(1002, { reply: false })
  },
  {
    section: "7.4.1",
    title: "once our Close is out, a message above the limit still fails the connection",
    limits: { maxMessageBytes: 8 },
    steps: [sendClose, text("", { announced: 9 })],
    outcome: fails(1009, { reply: false })
  }
]

export const closing: ReadonlyArray<Rule> = [...codes, ...payloads, ...handshake, ...failing]
