import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { echo, handOver, start, unhandledErrors } from "./fixture.ts"
import { closeFrame, closeOf, frame, opcodes, type RawFrame, type RawPeer, upgradeRaw } from "./rawPeer.ts"

const mebibyte = 1024 * 1024

/** The head of a masked frame whose payload does not come, with its length in 0, 2 or 8 bytes. */
const announce = (first: number, length: number | bigint, bytes: 0 | 2 | 8): Buffer => {
  const head = Buffer.alloc(2 + bytes)
  head.writeUInt8(first, 0)
  head.writeUInt8(0x80 | (bytes === 0 ? Number(length) : bytes === 2 ? 126 : 127), 1)
  if (bytes === 2) head.writeUInt16BE(Number(length), 2)
  if (bytes === 8) head.writeBigUInt64BE(BigInt(length), 2)
  return Buffer.concat([head, Buffer.from([1, 2, 3, 4])])
}

const repeat = (count: number, part: Buffer): Buffer => Buffer.concat(Array.from({ length: count }, () => part))

/** The Close frame among what a peer gets; there has to be nothing behind it but the end of the connection. */
const closing = Effect.fnUntraced(function*(peer: RawPeer) {
  let last: RawFrame
  do last = yield* peer.frame
  while (last.opcode !== opcodes.close)
  assert.strictEqual((yield* peer.rest).length, 0)
  return closeOf(last)?.code
})

const attacks: ReadonlyArray<readonly [name: string, code: number, bytes: Buffer]> = [
  ["an unmasked frame (§5.1)", 1002, frame("text", "hello", { masked: false })],
  ["a reserved bit (§5.2)", 1002, frame("text", "hello", { rsv: 4 })],
  ["a reserved opcode (§5.2)", 1002, announce(0x83, 5, 0)],
  ["a reserved control opcode (§5.2)", 1002, announce(0x8b, 5, 0)],
  ["a length of 2 bytes that fits in none (§5.2)", 1002, announce(0x82, 125, 2)],
  ["a length of 8 bytes that fits in 2 (§5.2)", 1002, announce(0x82, 65535, 8)],
  ["a length beyond 63 bits (§5.2)", 1002, announce(0x82, 1n << 63n, 8)],
  ["a fragmented ping (§5.5)", 1002, frame("ping", "", { fin: false })],
  ["a ping of 126 bytes (§5.5)", 1002, announce(0x89, 126, 2)],
  ["a continuation of nothing (§5.4)", 1002, frame("continuation", "hello")],
  [
    "a new message inside another (§5.4)",
    1002,
    Buffer.concat([frame("text", "a", { fin: false }), frame("text", "b")])
  ],
  ["a Close of one byte (§5.5.1)", 1002, frame("close", "x")],
  ["a close code that may not travel (§7.4.1)", 1002, closeFrame(1006)],
  ["a message over 1 MiB, at its head (§10.4)", 1009, announce(0x82, mebibyte + 1, 8)],
  ["a message over an exabyte, at its head (§10.4)", 1009, announce(0x82, 1n << 60n, 8)],
  [
    "fragments over 1 MiB together, at the head of the last (§10.4)",
    1009,
    Buffer.concat([frame("binary", Buffer.alloc(mebibyte - 10), { fin: false }), announce(0x80, 11, 0)])
  ],
  [
    "more than 1,024 fragments, empty ones counted (§10.4)",
    1008,
    Buffer.concat([frame("text", "", { fin: false }), repeat(1024, frame("continuation", "", { fin: false }))])
  ],
  ["text that is not UTF-8 (§8.1)", 1007, frame("text", Uint8Array.of(0x68, 0xff, 0x68))],
  [
    "text that is not UTF-8, before the frame is whole (§8.1)",
    1007,
    Buffer.concat([
      announce(0x81, 1000, 2),
      // Under the mask 1, 2, 3, 4.
      Buffer.from([0xff ^ 1])
    ])
  ],
  [
    "text that is not UTF-8, across fragments (§8.1)",
    1007,
    Buffer.concat([
      frame("text", Uint8Array.of(0xe2, 0x82), { fin: false }),
      frame("continuation", Uint8Array.of(0x28), { fin: false })
    ])
  ],
  ["text that ends inside a character (§8.1)", 1007, frame("text", Uint8Array.of(0xe2, 0x82))],
  ["a close reason that is not UTF-8 (§8.1)", 1007, frame("close", Uint8Array.of(3, 232, 0xff))],
  ["a flood of pings", 1008, repeat(1001, frame("ping", "flood"))],
  ["a flood of pongs", 1008, repeat(1001, frame("pong", "flood"))]
]

describe("a server is told to close by", () => {
  it.live.each(attacks)("%s: %s, and no other connection is harmed", ([, code, bytes]) =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { port } = yield* start(echo)
      const other = yield* upgradeRaw(port)
      const attacker = yield* upgradeRaw(port)
      yield* attacker.send(bytes)
      assert.strictEqual(yield* closing(attacker), code)
      yield* other.send(frame("text", "still there?"))
      assert.strictEqual((yield* other.frame).payload.toString(), "still there?")
      assert.deepStrictEqual(errors, [])
    }))
})

describe("what a handler learns of an attack", () => {
  it.live.each(
    [
      ["ProtocolError", 1002, frame("text", "hello", { masked: false })],
      ["LimitExceeded", 1009, announce(0x82, mebibyte + 1, 8)],
      ["InvalidPayload", 1007, frame("text", Uint8Array.of(0xff))]
    ] as const
  )("is a typed error: %s", ([tag, code, bytes]) =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port } = yield* start(serving)
      const attacker = yield* upgradeRaw(port)
      const connection = yield* accept
      // What came before is still delivered.
      yield* attacker.send(frame("text", "before"), bytes, frame("text", "behind"))
      assert.strictEqual(yield* connection.receive, "before")
      assert.strictEqual(yield* closing(attacker), code)
      yield* attacker.end
      const error = yield* Effect.flip(connection.receive)
      if (error._tag !== "ConnectionError") return assert.fail(error._tag)
      assert.strictEqual(error.reason._tag, tag)
      assert.deepStrictEqual([error.closeEvent.code, error.closeEvent.wasClean], [code, false])
    }))
})

describe("limits are options", () => {
  it.live("maxMessageBytes: the limit itself passes, one byte more is 1009", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo, { maxMessageBytes: 10 })
      const peer = yield* upgradeRaw(port)
      yield* peer.send(frame("binary", Buffer.alloc(10)))
      assert.strictEqual((yield* peer.frame).payload.length, 10)
      yield* peer.send(frame("binary", Buffer.alloc(11)))
      assert.strictEqual(yield* closing(peer), 1009)
    }))

  it.live("maxControlFramesPerSecond and maxFragments: 1008", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo, { maxControlFramesPerSecond: 5, maxFragments: 2 })
      const pinging = yield* upgradeRaw(port)
      yield* pinging.send(repeat(5, frame("ping")))
      assert.strictEqual((yield* pinging.frame).opcode, opcodes.pong)
      const flooding = yield* upgradeRaw(port)
      yield* flooding.send(repeat(6, frame("ping")))
      assert.strictEqual(yield* closing(flooding), 1008)
      const fragmenting = yield* upgradeRaw(port)
      yield* fragmenting.send(frame("text", "", { fin: false }), repeat(2, frame("continuation", "", { fin: false })))
      assert.strictEqual(yield* closing(fragmenting), 1008)
    }))
})

describe("a peer that", () => {
  it.live("never answers the Close is dropped after the close timeout (§7.1.1)", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port } = yield* start(serving, { closeTimeout: "100 millis" })
      const peer = yield* upgradeRaw(port)
      const connection = yield* accept
      yield* connection.close(1000, "bye")
      assert.deepStrictEqual(closeOf(yield* peer.frame), { code: 1000, reason: "bye" })
      assert.strictEqual((yield* peer.rest).length, 0)
      assert.strictEqual((yield* connection.closed).code, 1006)
    }))

  it.live("answers the Close and keeps the socket is dropped after the close timeout (§7.1.1)", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port } = yield* start(serving, { closeTimeout: "1 second" })
      const peer = yield* upgradeRaw(port)
      const connection = yield* accept
      const closing = yield* Effect.forkChild(connection.close(1000))
      yield* peer.frame
      yield* peer.send(closeFrame(1000))
      yield* Fiber.join(closing)
      assert.isTrue((yield* connection.closed).wasClean)
    }))

  it.live("floods instead of answering the Close is dropped after the close timeout (§7.1.1)", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port } = yield* start(serving, { closeTimeout: "100 millis" })
      const peer = yield* upgradeRaw(port)
      const connection = yield* accept
      yield* Effect.forkChild(Effect.forever(peer.send(frame("binary", Buffer.alloc(10_000)))))
      yield* connection.close(1000)
      yield* peer.rest
    }))

  it.live("is silent, also to pings, is dropped after the heartbeat's timeout", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port } = yield* start(serving, { heartbeat: { interval: "50 millis", timeout: "50 millis" } })
      const peer = yield* upgradeRaw(port)
      const connection = yield* accept
      const error = yield* Effect.flip(connection.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "HeartbeatTimeout")
      assert.strictEqual((yield* peer.frame).opcode, opcodes.ping)
      assert.strictEqual((yield* peer.rest).length, 0)
    }))

  it.live("resets in the middle of a message is a lost connection (§7.1.5)", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { accept, serving } = yield* handOver()
      const { port } = yield* start(serving)
      const peer = yield* upgradeRaw(port)
      const connection = yield* accept
      yield* peer.send(frame("text", "whole"), frame("text", "part", { fin: false }), announce(0x80, 100, 0))
      assert.strictEqual(yield* connection.receive, "whole")
      yield* peer.reset
      const error = yield* Effect.flip(connection.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ConnectionLost")
      assert.deepStrictEqual(errors, [])
    }))
})
