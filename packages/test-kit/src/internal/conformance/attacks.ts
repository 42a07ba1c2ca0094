/**
 * What hostile peers try, under the limits that connections have by default (RFC 6455, section 10.4).
 */
import {
  binary,
  continuation,
  fails,
  flood,
  ping,
  pinged,
  pong,
  ponged,
  type Rule,
  takes,
  text
} from "../../ConformanceRule.ts"
import { more, pattern } from "../../Wire.ts"

const MiB = 1024 * 1024
const limits = { maxMessageBytes: MiB, maxFragments: 1024, maxControlFramesPerSecond: 1000 }
const section = "10.4"

const times = <A>(count: number, one: A): ReadonlyArray<A> => Array.from({ length: count }, () => one)

const sizes: ReadonlyArray<Rule> = [
  {
    section,
    title: "a message of 1 MiB comes back",
    limits,
    steps: [binary(pattern(MiB))],
    outcome: takes({ messages: [pattern(MiB)] })
  },
  ...[MiB + 1, 2 ** 60].map((announced): Rule => ({
    section,
    title: `a message of ${announced} bytes is refused at its header`,
    limits,
    steps: [binary("", { announced })],
    outcome: fails(1009)
  })),
  {
    section,
    title: "fragments of more than 1 MiB together are refused at the header of the last",
    limits,
    steps: [binary(pattern(MiB - 10), more), continuation("", { announced: 11 })],
    outcome: fails(1009)
  },
  {
    section,
    title: "more than 1,024 fragments are refused, empty ones counted",
    limits,
    steps: [text("", more), ...times(1024, continuation("", more))],
    outcome: fails(1008)
  }
]

const floods: ReadonlyArray<Rule> = [
  {
    section,
    title: "a flood of Pings is refused",
    limits,
    steps: times(1001, ping("flood")),
    outcome: fails(1008, { events: times(1000, pinged("flood")) })
  },
  {
    section,
    title: "a flood of Pongs is refused",
    limits,
    steps: times(1001, pong("flood")),
    outcome: fails(1008, { events: times(1000, ponged("flood")) })
  },
  {
    section,
    title: "a peer that does not read what it asked for is not read any more, and everything comes in the end",
    steps: [flood(binary(pattern(64 * 1024)), 48 * MiB)],
    outcome: takes({})
  }
]

/**
 * DEFLATE (RFC 1951) of so many zero bytes: a block of the fixed codes, which repeats the byte before 258 times in 13 bits.
 */
export const bombOf = (length: number): Uint8Array => {
  const repeats = Math.ceil((length - 1) / 258)
  const bytes = new Uint8Array(Math.ceil((3 + 8 + repeats * 13 + 7) / 8) + 1)
  let at = 0
  const put = (bits: string) => {
    for (const bit of bits) {
      if (bit === "1") bytes[at >> 3]! |= 1 << (at & 7)
      at++
    }
  }
  // Not the last block, and of fixed codes, whose bits come with the highest first: the literal 0, then length 258 at
  // distance 1, then the end of the block.
  put("010")
  put("00110000")
  for (let i = 0; i < repeats; i++) put("1100010100000")
  put("0000000")
  // An empty stored block, without its last four bytes (RFC 7692, section 7.2.1).
  put("000")
  return bytes.subarray(0, Math.ceil(at / 8))
}

const marked = { rsv: 4 }
const bomb = bombOf(2 * MiB)

const inflation: ReadonlyArray<Rule> = [
  {
    section,
    title: "what inflates to more than the limit is refused",
    limits,
    deflate: true,
    steps: [binary(bomb, marked)],
    outcome: fails(1009)
  },
  {
    section,
    title: "what inflates to more than the limit is refused, in fragments too",
    limits,
    deflate: true,
    steps: [
      binary(bomb.subarray(0, 100), { ...marked, ...more }),
      continuation(bomb.subarray(100, 200), more),
      continuation(bomb.subarray(200))
    ],
    outcome: fails(1009)
  },
  {
    section,
    title: "what does not inflate is refused",
    deflate: true,
    steps: [binary([0x07], marked)],
    outcome: fails(1007)
  },
  {
    section: "5.2",
    title: "a continuation does not say that it is compressed (RFC 7692, section 6.1)",
    deflate: true,
    steps: [text("a", more), continuation("b", marked)],
    outcome: fails(1002)
  },
  {
    section: "5.2",
    title: "a Ping is not compressed (RFC 7692, section 5)",
    deflate: true,
    steps: [ping("", marked)],
    outcome: fails(1002)
  }
]

export const hostile: ReadonlyArray<Rule> = [...sizes, ...floods, ...inflation]
