import type { Connection } from "@effect-ws/core/Connection"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import type { ConnectionError } from "@effect-ws/core/WebSocketError"
import { type WebSocketProbe, Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { bytesOf, compressed, counted, following, hex, marked, negotiated, none } from "./deflate.ts"
import { binary, control, frames, open, roles, settle, show } from "./fixture.ts"

const KiB = 1024

/** The way in which a connection fails over what the peer sends. */
const failure = Effect.fnUntraced(function*(connection: Connection, peer: WebSocketProbe.WebSocketProbe) {
  const close = show(yield* peer.frame)
  yield* peer.end
  const error = yield* Effect.flip(Effect.forever(connection.receive)) as Effect.Effect<ConnectionError>
  assert.strictEqual(close, `close ${error.closeEvent.code} ${error.closeEvent.reason}`)
  return `${error.reason._tag} ${error.closeEvent.code}`
})

describe.each(roles)("the examples of RFC 7692 as they are on the wire, received (%s)", (role) => {
  const examples = {
    "§7.2.3.1: one compressed block": ["c107 f248cdc9c90700"],
    "§7.2.3.1: the same in two fragments": ["4103 f248cd", "8004 c9c90700"],
    "§7.2.3.3: a block with no compression": ["c10b 000500faff48656c6c6f00"],
    "§7.2.3.4: a block with BFINAL set": ["c108 f348cdc9c9070000"],
    "§7.2.3.5: two blocks": ["c10d f248050000 00ffffcac9c90700"],
    "§6.1: fragments that are empty": ["4100", "0007 f248cdc9c90700", "8000"],
    "§6.2: not compressed, since RSV1 is not set": ["8105 48656c6c6f"]
  }

  it.effect.each(Object.entries(examples))("%s", ([, wire]) =>
    Effect.gen(function*() {
      for (const chunkBytes of [1, 3, 1000]) {
        const { connection, peer } = yield* open({ role, deflate: negotiated(), link: { chunkBytes } })
        const bytes = wire.map(hex)
        if (role === "client") {
          for (const each of bytes) yield* peer.sendBytes(each)
        } else {
          // The peer is a client here: the same frames, masked.
          yield* peer.send(...bytes.map((each) => ({
            fin: (each[0]! & 0x80) !== 0,
            rsv: (each[0]! >> 4) & 7,
            opcode: (each[0]! & 0xf) as Opcode,
            payload: each.slice(2)
          })))
        }
        assert.strictEqual(yield* connection.receive, "Hello")
      }
    }))

  it.effect("§7.2.3.2: the second message refers to the first, if that was agreed on", () =>
    Effect.gen(function*() {
      const second = marked(hex("f200110000"))
      const { connection, peer } = yield* open({ role, deflate: negotiated({ contextTakeover: true }) })
      // A message that is not compressed does not go into the window.
      yield* peer.send(marked(hex("f248cdc9c90700")), Wire.text("between"), second, second)
      for (const expected of ["Hello", "between", "Hello", "Hello"]) {
        assert.strictEqual(yield* connection.receive, expected)
      }
      const without = yield* open({ role, deflate: negotiated() })
      yield* without.peer.send(marked(hex("f248cdc9c90700")), second)
      assert.strictEqual(yield* failure(without.connection, without.peer), "InvalidPayload 1007")
    }))

  it.effect("§7.2.3.6: an empty message", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ role, deflate: negotiated() })
      yield* peer.send(marked(hex("00")), marked(hex("00"), { opcode: Opcode.binary }))
      assert.strictEqual(yield* connection.receive, "")
      assert.deepStrictEqual(yield* connection.receive, none)
    }))
})

describe("what arrives compressed", () => {
  it.effect("§6.1: control frames come in between", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ deflate: negotiated() })
      const payload = compressed("text ".repeat(100))
      yield* peer.send(marked(payload.subarray(0, 5), { fin: false }), control(Opcode.ping, 1))
      assert.deepStrictEqual(yield* frames(peer, 1), ["pong 1"])
      yield* peer.send(following(payload.subarray(5)), control(Opcode.ping, 2))
      assert.strictEqual(yield* connection.receive, "text ".repeat(100))
      assert.deepStrictEqual(yield* frames(peer, 1), ["pong 2"])
    }))

  it.effect("keeps its place among messages that do not", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ deflate: negotiated({ contextTakeover: true }) })
      const bytes = new Uint8Array(300).fill(7)
      yield* peer.send(
        Wire.text("a"),
        marked(compressed("b")),
        binary(Uint8Array.of(1)),
        marked(compressed(bytes), { opcode: Opcode.binary }),
        Wire.text("c")
      )
      for (const expected of ["a", "b", Uint8Array.of(1), bytes, "c"]) {
        assert.deepStrictEqual(yield* connection.receive, expected)
      }
    }))

  it.effect("is the consumer's to change", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ deflate: negotiated({ contextTakeover: true, windowBits: 9 }) })
      const bytes = Uint8Array.from({ length: 40_000 }, (_, i) => i * 7)
      yield* peer.send(marked(compressed(bytes), { opcode: Opcode.binary }))
      const message = yield* connection.receive
      assert.deepStrictEqual(message, bytes)
      if (typeof message !== "string") message.fill(0)
      yield* peer.send(marked(compressed(bytes, bytes.slice(-512)), { opcode: Opcode.binary }))
      assert.deepStrictEqual(yield* connection.receive, bytes)
    }))

  it.effect("§7.1.2: may refer back as far as the window goes, and no further", () =>
    Effect.gen(function*() {
      const deflate = negotiated({ contextTakeover: true, windowBits: 9 })
      const long = Array.from({ length: 150 }, (_, i) => `${i * 7919} `).join("")
      const message = (back: number) => {
        const dictionary = new TextEncoder().encode(long)
        const copied = long.slice(long.length - back, long.length - back + 60)
        return { copied, frame: marked(compressed(copied, dictionary)) }
      }
      const { connection, peer } = yield* open({ deflate })
      yield* peer.send(marked(compressed(long)), message(500).frame)
      assert.strictEqual(yield* connection.receive, long)
      assert.strictEqual(yield* connection.receive, message(500).copied)
      const further = yield* open({ deflate })
      yield* further.peer.send(marked(compressed(long)), message(600).frame)
      assert.strictEqual(yield* failure(further.connection, further.peer), "InvalidPayload 1007")
    }))

  it.effect("is inflated by a server and a client that turn compression of their own off by a threshold", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ deflate: negotiated({ options: { threshold: Infinity } }) })
      yield* peer.send(marked(compressed("hello")))
      assert.strictEqual(yield* connection.receive, "hello")
    }))
})

describe("a peer that breaks the rules of compression", () => {
  const invalidUtf8 = Uint8Array.of(0x61, 0xc3, 0x28)
  const limit = { maxMessageBytes: 10 * KiB }
  const half = compressed("hello").subarray(0, 3)

  const cases = {
    "§6: RSV1 on a Ping": [[{ ...control(Opcode.ping), rsv: 4 }], "ProtocolError 1002"],
    "§6: RSV1 on a Close": [[{ ...control(Opcode.close), rsv: 4 }], "ProtocolError 1002"],
    "§6.1: RSV1 on a continuation": [
      [marked(half, { fin: false }), following(half, { rsv: 4 })],
      "ProtocolError 1002"
    ],
    "§6.1: RSV1 on the continuation of what is not compressed": [
      [marked(bytesOf("hel"), { fin: false, rsv: 0 }), following(half, { rsv: 4 })],
      "ProtocolError 1002"
    ],
    "§6: RSV2": [[marked(compressed("a"), { rsv: 2 })], "ProtocolError 1002"],
    "§6: RSV1 and RSV3": [[marked(compressed("a"), { rsv: 5 })], "ProtocolError 1002"],
    "§7.2.2: garbage": [[marked(hex("ffffffff"))], "InvalidPayload 1007"],
    "§7.2.2: plain text that is marked": [[marked(new TextEncoder().encode("hello, world"))], "InvalidPayload 1007"],
    "§7.2.2: not whole": [[marked(half)], "InvalidPayload 1007"],
    "§7.2.2: nothing": [[marked(none)], "InvalidPayload 1007"],
    "§7.2.2: garbage in the last fragment": [
      [marked(compressed("a".repeat(100)), { fin: false }), following(hex("ffff"))],
      "InvalidPayload 1007"
    ],
    "RFC 6455 §8.1: text that is not UTF-8 when inflated": [[marked(compressed(invalidUtf8))], "InvalidPayload 1007"],
    "RFC 6455 §8.1: the same in fragments": [
      [marked(compressed(invalidUtf8).subarray(0, 2), { fin: false }), following(compressed(invalidUtf8).subarray(2))],
      "InvalidPayload 1007"
    ],
    "§8: more than the limit when inflated": [[marked(compressed("a".repeat(10 * KiB + 1)))], "LimitExceeded 1009"],
    "§8: the same in fragments": [
      [
        marked(compressed("a".repeat(20 * KiB)).subarray(0, 4), { fin: false }),
        following(compressed("a".repeat(20 * KiB)).subarray(4))
      ],
      "LimitExceeded 1009"
    ]
  } as const

  it.effect.each(Object.entries(cases))("%s", ([, [sent, expected]]) =>
    Effect.gen(function*() {
      for (const role of roles) {
        const { connection, peer } = yield* open({ role, deflate: negotiated(), ...limit })
        yield* peer.send(Wire.text("before"), ...sent, marked(compressed("behind")))
        assert.strictEqual(yield* connection.receive, "before")
        assert.strictEqual(yield* failure(connection, peer), expected)
      }
    }))

  it.effect("§6: RSV1 without an agreement is a violation", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* peer.send(marked(compressed("a")))
      assert.strictEqual(yield* failure(connection, peer), "ProtocolError 1002")
    }))

  it.effect("the limit is for what is inflated: as much is taken, in any number of messages", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ deflate: negotiated(), ...limit })
      const frame = marked(compressed("a".repeat(10 * KiB)))
      yield* peer.send(frame, frame, frame)
      for (let i = 0; i < 3; i++) assert.strictEqual(yield* connection.receive, "a".repeat(10 * KiB))
    }))

  it.effect("a header that announces more than the limit is refused before anything is inflated", () =>
    Effect.gen(function*() {
      const { calls, compression } = counted()
      const { connection, peer } = yield* open({ role: "client", deflate: negotiated({ compression }), ...limit })
      yield* peer.sendBytes(Uint8Array.of(0xc2, 126, 0x28, 0x01))
      assert.strictEqual(yield* failure(connection, peer), "LimitExceeded 1009")
      const fragmented = yield* open({ deflate: negotiated({ compression }), ...limit })
      yield* fragmented.peer.send(
        marked(new Uint8Array(8 * KiB), { fin: false }),
        following(new Uint8Array(8 * KiB))
      )
      assert.strictEqual(yield* failure(fragmented.connection, fragmented.peer), "LimitExceeded 1009")
      assert.strictEqual(calls.inflate, 0)
    }))
})

describe("many small bombs in one read", () => {
  const size = 100 * KiB
  const message = "z".repeat(size)
  const bomb = marked(compressed(message))
  const bombs = 200

  const openSlow = Effect.gen(function*() {
    const { calls, compression } = counted()
    const opened = yield* open({ deflate: negotiated({ compression }) })
    return { ...opened, calls }
  })

  it.effect("are inflated as there is demand, and none is lost", () =>
    Effect.gen(function*() {
      const { calls, connection, peer, wire } = yield* openSlow
      yield* peer.send(...Array.from({ length: bombs }, () => bomb))
      yield* settle
      assert.strictEqual(calls.inflate, 1)
      assert.deepStrictEqual(wire.calls, ["pause"])
      for (let i = 1; i <= bombs; i++) {
        assert.strictEqual(yield* connection.receive, message)
        assert.isAtMost(calls.inflate, i + 1)
      }
      assert.strictEqual(wire.calls.at(-1), "resume")
      yield* peer.sendText("behind")
      assert.strictEqual(yield* connection.receive, "behind")
    }))

  it.effect("keep their order, whatever a transport delivers after it was paused", () =>
    Effect.gen(function*() {
      const { compression } = counted()
      const { connection, peer } = yield* open({
        deflate: negotiated({ compression }),
        // Pausing has no effect.
        wrap: (transport) => ({ ...transport, start: transport.start, pause: () => {} })
      })
      for (let i = 0; i < 20; i++) yield* peer.send(bomb, Wire.text(String(i)), bomb)
      yield* settle
      for (let i = 0; i < 20; i++) {
        for (const expected of [message, String(i), message]) assert.strictEqual(yield* connection.receive, expected)
      }
    }))

  it.effect("are not inflated for nobody when the connection is lost", () =>
    Effect.gen(function*() {
      const { calls, connection, peer } = yield* openSlow
      yield* peer.send(...Array.from({ length: bombs }, () => bomb))
      yield* settle
      yield* peer.reset
      yield* connection.closed
      assert.isAtMost(calls.inflate, 3)
      assert.strictEqual(yield* connection.receive, message)
    }))

  it.effect("do not fill memory while the connection closes", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openSlow
      yield* peer.send(...Array.from({ length: bombs }, () => bomb))
      yield* settle
      yield* Effect.forkChild(connection.close(), { startImmediately: true })
      yield* peer.sendClose(1000)
      assert.deepStrictEqual(yield* frames(peer, 1), ["close 1000"])
      yield* peer.end
      assert.isTrue((yield* connection.closed).wasClean)
      let kept = 0
      yield* Effect.ignore(Effect.forever(Effect.tap(connection.receive, () => Effect.sync(() => kept++))))
      assert.isAtMost(kept, 2)
    }))
})
