/**
 * RFC 6455, sections 5.1, 5.2, 5.3 and the examples of 5.7.
 */
import { Opcode } from "@effect-ws/core/protocol/Frame"
import { binary, bytes, closed, fails, frame, pinged, ponged, type Rule, takes, text } from "../../ConformanceRule.ts"
import { pattern } from "../../Wire.ts"

const opcodes = Object.entries(Opcode)
const hello = [0x48, 0x65, 0x6c, 0x6c, 0x6f]
const maskedHello = [0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]

const masking: ReadonlyArray<Rule> = [
  ...opcodes.map(([name, opcode]): Rule => ({
    section: "5.1",
    title: `a server fails the connection over an unmasked ${name} frame`,
    role: "server",
    steps: [frame(opcode, "", { masked: false })],
    outcome: fails(1002)
  })),
  ...opcodes.map(([name, opcode]): Rule => ({
    section: "5.1",
    title: `a client fails the connection over a masked ${name} frame`,
    role: "client",
    steps: [frame(opcode, "", { masked: true, upTo: 2 })],
    outcome: fails(1002)
  })),
  {
    section: "5.1",
    title: "a server takes the masked message before the unmasked one",
    role: "server",
    steps: [text("a"), text("b", { masked: false, upTo: 2 })],
    outcome: fails(1002, { messages: ["a"] })
  },
  {
    section: "5.3",
    title: "every frame is unmasked with its own key",
    role: "server",
    steps: [
      text("abcdefgh", { maskKey: [1, 2, 3, 4] }),
      text("abcdefgh", { maskKey: [0xff, 0, 0x80, 0x7f] }),
      text("abc", { fin: false, maskKey: [0xde, 0xad, 0xbe, 0xef] }),
      frame(Opcode.continuation, "defgh", { maskKey: [0x80, 0, 0, 0x01] })
    ],
    outcome: takes({ messages: ["abcdefgh", "abcdefgh", "abcdefgh"] })
  },
  {
    section: "5.3",
    title: "a key of zero masks as any other",
    role: "server",
    steps: [binary(pattern(300), { maskKey: [0, 0, 0, 0] })],
    outcome: takes({ messages: [pattern(300)] })
  }
]

const headers: ReadonlyArray<Rule> = [
  ...[0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf].flatMap((opcode) =>
    [true, false].map((fin): Rule => ({
      section: "5.2",
      title: `opcode 0x${opcode.toString(16)} is reserved, ${fin ? "final" : "not final"}`,
      steps: [frame(opcode, "", { fin, upTo: 1 })],
      outcome: fails(1002)
    }))
  ),
  ...opcodes.flatMap(([name, opcode]) =>
    [1, 2, 3, 4, 5, 6, 7].map((rsv): Rule => ({
      section: "5.2",
      title: `RSV ${rsv.toString(2).padStart(3, "0")} on a ${name} frame means nothing without an extension`,
      steps: [frame(opcode, "", { rsv, upTo: 1 })],
      outcome: fails(1002)
    }))
  ),
  {
    section: "5.2",
    title: "the message before a reserved opcode is taken, and nothing behind it",
    steps: [text("a"), frame(0x3, "", { upTo: 1 })],
    outcome: fails(1002, { messages: ["a"] })
  }
]

const lengths: ReadonlyArray<Rule> = [
  ...[0, 1, 125, 126, 127, 128, 65_535, 65_536].map((length): Rule => ({
    section: "5.2",
    title: `a payload of ${length} bytes is taken whole, and the frame behind it`,
    steps: [binary(pattern(length)), text("behind")],
    outcome: takes({ messages: [pattern(length), "behind"] })
  })),
  ...[0, 1, 125].map((announced): Rule => ({
    section: "5.2",
    title: `a length of ${announced} in 16 bits is not minimal`,
    steps: [binary("", { announced, lengthBits: 16, upTo: 4 })],
    outcome: fails(1002)
  })),
  ...[0, 125, 126, 65_535].map((announced): Rule => ({
    section: "5.2",
    title: `a length of ${announced} in 64 bits is not minimal`,
    steps: [binary("", { announced, lengthBits: 64, upTo: 10 })],
    outcome: fails(1002)
  })),
  {
    section: "5.2",
    title: "the most significant bit of a 64-bit length must be 0",
    steps: [binary("", { announced: 2 ** 63, upTo: 10 })],
    outcome: fails(1002)
  },
  {
    section: "5.2",
    title: "a 64-bit length of ones only has its most significant bit set",
    role: "client",
    steps: [bytes(0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)],
    outcome: fails(1002)
  }
]

const examples: ReadonlyArray<Rule> = [
  {
    section: "5.7",
    title: "a single-frame unmasked text message",
    role: "client",
    steps: [bytes(0x81, 0x05, ...hello)],
    outcome: takes({ messages: ["Hello"] })
  },
  {
    section: "5.7",
    title: "a single-frame masked text message",
    role: "server",
    steps: [bytes(0x81, 0x85, ...maskedHello)],
    outcome: takes({ messages: ["Hello"] })
  },
  {
    section: "5.7",
    title: "a fragmented unmasked text message",
    role: "client",
    steps: [bytes(0x01, 0x03, 0x48, 0x65, 0x6c), bytes(0x80, 0x02, 0x6c, 0x6f)],
    outcome: takes({ messages: ["Hello"] })
  },
  {
    section: "5.7",
    title: "an unmasked Ping request and its masked response",
    role: "client",
    steps: [bytes(0x89, 0x05, ...hello)],
    outcome: takes({ events: [pinged("Hello")] })
  },
  {
    section: "5.7",
    title: "a masked Ping response",
    role: "server",
    steps: [bytes(0x8a, 0x85, ...maskedHello)],
    outcome: takes({ events: [ponged("Hello")] })
  },
  {
    section: "5.7",
    title: "256 bytes of binary in a single unmasked frame",
    role: "client",
    steps: [bytes(0x82, 0x7e, 0x01, 0x00, ...pattern(256))],
    outcome: takes({ messages: [pattern(256)] })
  },
  {
    section: "5.7",
    title: "64 KiB of binary in a single unmasked frame",
    role: "client",
    steps: [bytes(0x82, 0x7f, 0, 0, 0, 0, 0, 0x01, 0, 0, ...pattern(65_536))],
    outcome: takes({ messages: [pattern(65_536)] })
  },
  {
    section: "5.2",
    title: "frames of every kind in one stretch of bytes",
    steps: [text("a"), frame(Opcode.ping, "b"), binary([3]), frame(Opcode.pong, "c"), frame(Opcode.close)],
    outcome: takes({
      messages: ["a", Uint8Array.of(3)],
      events: [pinged("b"), ponged("c"), closed()],
      state: "CloseReceived"
    })
  }
]

export const framing: ReadonlyArray<Rule> = [...masking, ...headers, ...lengths, ...examples]
