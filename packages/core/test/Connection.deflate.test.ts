import * as Connection from "@effect-ws/core/Connection"
import { prepare } from "@effect-ws/core/Message"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import type { WindowBits } from "@effect-ws/core/protocol/PerMessageDeflate"
import { TestLink, type Transcript, type WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema, Stream } from "effect"
import * as Arbitrary from "effect/Arbitrary"
import { type Agreed, bytesOf, compressed, counted, hex, inflated, negotiated, none } from "./deflate.ts"
import { handshake, open, openStalled, roles, settle, start } from "./fixture.ts"

const KiB = 1024
const text = "a text that repeats itself, and a text that repeats itself. "
const long = text.repeat(50)
const random = (size: number, seed = 1) => {
  let state = seed
  return Uint8Array.from({ length: size }, () => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) >>> 24)
}

const take = (peer: WebSocketProbe.WebSocketProbe, count: number) => Effect.replicateEffect(peer.frame, count)

/** The message that frames make, whose payloads are inflated together if the first is marked. */
const messageOf = (frames: ReadonlyArray<Transcript.Frame>, dictionary: Uint8Array = none): string => {
  const payload = new Uint8Array(Buffer.concat(frames.map((frame) => frame.payload)))
  return frames[0]?.rsv === 4 ? inflated(payload, dictionary) : new TextDecoder().decode(payload)
}

const openWith = (agreed: Agreed, options: Connection.SettingsOptions & { readonly role?: "server" | "client" } = {}) =>
  open({ deflate: negotiated(agreed), ...options })

describe.each(roles)("the examples of RFC 7692 as they are on the wire, sent (%s)", (role) => {
  it.effect("§7.2.3.1: one compressed block", () =>
    Effect.gen(function*() {
      // zlib makes five bytes no smaller than five: only more of them make a message worth compressing.
      const { connection, peer } = yield* openWith({}, { role })
      yield* connection.sendStream(Stream.make("Hello"))
      assert.deepStrictEqual(yield* take(peer, 2), [
        { fin: false, rsv: 4, opcode: Opcode.text, payload: hex("f248cdc9c907000000ffff") },
        { fin: true, rsv: 0, opcode: Opcode.continuation, payload: hex("00") }
      ])
    }))

  it.effect("§7.2.3.2: the second message refers to the first, if that was agreed on", () =>
    Effect.gen(function*() {
      const first = "Hello, hello, hello, Hello"
      const { connection, peer } = yield* openWith({ contextTakeover: true }, { role })
      yield* connection.sendAll([first, first, first])
      const [one, two, three] = yield* take(peer, 3)
      assert.deepStrictEqual(one?.payload, compressed(first))
      assert.deepStrictEqual(two?.payload, compressed(first, bytesOf(first)))
      assert.deepStrictEqual(three?.payload, compressed(first, bytesOf(first + first)))
      assert.isBelow(two!.payload.length, one!.payload.length)

      const without = yield* openWith({}, { role })
      yield* without.connection.sendAll([first, first])
      for (const frame of yield* take(without.peer, 2)) assert.deepStrictEqual(frame.payload, compressed(first))
    }))
})

describe("what is sent", () => {
  it.effect("is compressed from the threshold on, in UTF-8 bytes, and RSV1 tells", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ options: { threshold: 100 } })
      const sent = ["é".repeat(49), "é".repeat(50), new Uint8Array(99), new Uint8Array(100), ""]
      yield* connection.sendAll(sent)
      const frames = yield* take(peer, 5)
      assert.deepStrictEqual(frames.map(({ opcode, rsv }) => [opcode, rsv]), [[1, 0], [1, 4], [2, 0], [2, 4], [1, 0]])
      for (const [i, frame] of frames.entries()) {
        assert.strictEqual(messageOf([frame]), new TextDecoder().decode(bytesOf(sent[i]!)))
      }
    }))

  it.effect("has a threshold of 1 KiB", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ options: { threshold: undefined } })
      yield* connection.sendAll(["x".repeat(1023), "x".repeat(1024)])
      assert.deepStrictEqual((yield* take(peer, 2)).map(({ rsv }) => rsv), [0, 4])
    }))

  it.effect("goes as it is where that is shorter, and is then not in the window", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ contextTakeover: true })
      yield* connection.sendAll([random(500), long, long])
      const [first, second, third] = yield* take(peer, 3)
      assert.deepStrictEqual(first, { fin: true, rsv: 0, opcode: Opcode.binary, payload: random(500) })
      assert.strictEqual(messageOf([second!]), long)
      assert.strictEqual(messageOf([third!], bytesOf(long)), long)
    }))

  it.effect("is the sender's to change once it has left", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ contextTakeover: true, windowBits: 9 })
      const bytes = bytesOf(long)
      yield* connection.send(bytes)
      yield* connection.drained
      bytes.fill(0)
      yield* connection.send(long)
      const [first, second] = yield* take(peer, 2)
      assert.strictEqual(messageOf([first!]), long)
      assert.deepStrictEqual(second!.payload, compressed(long, bytesOf(long.slice(-512)), 9))
    }))

  it.effect("is not compressed without an agreement", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* connection.send(long)
      assert.deepStrictEqual((yield* peer.frame).payload, bytesOf(long))
    }))

  it.effect("control frames and the Close are not compressed", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({})
      const payload = new Uint8Array(125)
      yield* connection.sendPing(payload)
      yield* connection.sendPong(payload)
      yield* start(connection.close(4000, "x".repeat(100)))
      const frames = yield* take(peer, 3)
      assert.deepStrictEqual(frames.map(({ opcode, rsv }) => [opcode, rsv]), [[9, 0], [10, 0], [8, 0]])
      assert.deepStrictEqual(frames[0]!.payload, payload)
      yield* peer.reset
    }))

  it.effect.each([1, 6, 9] as const)("level %i", (level) =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ options: { level } })
      yield* connection.send(long)
      const { payload } = yield* peer.frame
      const { compression } = negotiated().settings
      assert.deepStrictEqual(payload, compression.deflate(bytesOf(long), { level, windowBits: 15, dictionary: none }))
    }))

  it.effect.each([8, 9, 12, 15] as const)(
    "§7.1.2: refers back no further than 2^%i bytes",
    (windowBits) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* openWith({ contextTakeover: true, windowBits })
        const messages = Array.from({ length: 40 }, (_, i) => `${i % 7} ${random(700, i % 5 + 1).join(" ")}`)
        yield* connection.sendAll(messages)
        let before = ""
        for (const message of messages) {
          const frame = yield* peer.frame
          // Inflating would fail if there was a reference to what is not in the window.
          assert.strictEqual(messageOf([frame], bytesOf(before.slice(-(2 ** windowBits)))), message)
          if (frame.rsv === 4) before += message
        }
      })
  )
})

describe("a streamed message", () => {
  const words = ["first fragment of a message, ", "", "the second fragment of a message, ", "the third fragment"]

  it.effect("§6.1: is one compressed message, and each fragment is flushed", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ options: { threshold: 10 } })
      yield* connection.sendStream(Stream.fromIterable(words))
      const frames = yield* take(peer, 5)
      assert.deepStrictEqual(frames.map(({ fin, opcode, rsv }) => [opcode, rsv, fin]), [
        [1, 4, false],
        [0, 0, false],
        [0, 0, false],
        [0, 0, false],
        [0, 0, true]
      ])
      assert.strictEqual(messageOf(frames), words.join(""))
      // What has been sent so far can be read so far.
      for (let count = 1; count < frames.length; count++) {
        const begun = new Uint8Array(Buffer.concat(frames.slice(0, count).map(({ payload }) => payload)))
        assert.strictEqual(inflated(begun.subarray(0, -4)), words.slice(0, count).join(""))
      }
      assert.isBelow(frames[2]!.payload.length, compressed(words[2]!).length)
    }))

  it.effect("goes as it is if its first fragment is below the threshold", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ options: { threshold: 100 } })
      yield* connection.sendStream(Stream.make("short", long))
      const frames = yield* take(peer, 3)
      assert.deepStrictEqual(frames.map(({ rsv }) => rsv), [0, 0, 0])
      assert.strictEqual(messageOf(frames), `short${long}`)
    }))

  it.effect("does not depend on the message before it, nor that on it, without context takeover", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({})
      yield* connection.send(long)
      yield* connection.sendStream(Stream.make(long, long))
      yield* connection.send(long)
      const [before, ...frames] = yield* take(peer, 5)
      const after = frames.pop()
      assert.deepStrictEqual(before, after)
      assert.strictEqual(messageOf(frames), long + long)
    }))

  it.effect("§7.1.1: is in the window of the messages behind it, with context takeover", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ contextTakeover: true })
      yield* connection.send("before: " + long)
      yield* connection.sendStream(Stream.make(long, "and ", long))
      yield* connection.send("after: " + long)
      const [before, ...frames] = yield* take(peer, 6)
      const after = frames.pop()
      let sent = ""
      for (const message of [[before!], frames, [after!]]) {
        sent += messageOf(message, bytesOf(sent.slice(-32 * KiB)))
      }
      assert.strictEqual(sent, `before: ${long}${long}and ${long}after: ${long}`)
    }))

  it.effect("control frames go in between, and other messages wait their turn", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ contextTakeover: true })
      const streaming = yield* start(connection.sendStream(Stream.concat(Stream.make(long), Stream.never)))
      yield* settle
      yield* connection.send("held " + long)
      yield* connection.sendPing()
      const frames = yield* take(peer, 2)
      assert.deepStrictEqual(frames.map(({ opcode, rsv }) => [opcode, rsv]), [[1, 4], [9, 0]])
      yield* peer.reset
      yield* Fiber.interrupt(streaming)
    }))
})

describe("a prepared message", () => {
  const message = prepare(long)

  it.effect("is compressed once for all who agreed on the same", () =>
    Effect.gen(function*() {
      const { calls, compression } = counted()
      const prepared = prepare("once: " + long)
      const receivers = [
        yield* openWith({ compression }),
        yield* openWith({ compression }),
        yield* openWith({ compression }, { role: "client" }),
        yield* openWith({ compression, windowBits: 9 }),
        yield* openWith({ compression, windowBits: 9 })
      ]
      for (const { connection, peer } of receivers) {
        yield* connection.send(prepared)
        const frame = yield* peer.frame
        assert.strictEqual(frame.rsv, 4)
        assert.strictEqual(messageOf([frame]), "once: " + long)
      }
      assert.strictEqual(calls.deflate, 2)
    }))

  it.effect("is compressed for each connection with context takeover", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ contextTakeover: true })
      yield* connection.sendAll([message, long, message])
      let before = ""
      for (const frame of yield* take(peer, 3)) {
        assert.strictEqual(messageOf([frame], bytesOf(before)), long)
        before += long
      }
    }))

  it.effect("goes as it is below the threshold, and where that is shorter", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openWith({ options: { threshold: 10 } })
      yield* connection.sendAll([prepare("short"), prepare(random(500))])
      const [first, second] = yield* take(peer, 2)
      assert.strictEqual(messageOf([first!]), "short")
      assert.deepStrictEqual(second, { fin: true, rsv: 0, opcode: Opcode.binary, payload: random(500) })
    }))
})

describe("the queue", () => {
  it.effect("counts a message as it is, until its frame has left", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ deflate: negotiated(), maxQueuedBytes: 10_000 })
      yield* connection.send("x".repeat(4000))
      yield* settle
      yield* connection.send("y".repeat(4000))
      assert.strictEqual(yield* connection.queuedBytes, 8008)
      const waiting = yield* start(connection.send("z".repeat(4000)))
      assert.isUndefined(waiting.pollUnsafe())
      yield* peer.demand(Infinity)
      yield* Fiber.join(waiting)
      yield* connection.drained
      assert.strictEqual(yield* connection.queuedBytes, 0)
      for (const letter of "xyz") assert.strictEqual(messageOf([yield* peer.frame]), letter.repeat(4000))
    }))

  it.effect("what it drops was not compressed, so that the peer's window stays the same as ours", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({
        deflate: negotiated({ contextTakeover: true }),
        maxQueuedMessages: 3,
        overflow: "drop-oldest"
      })
      const message = (i: number) => `message ${i} ${text}`
      yield* connection.send(message(0))
      yield* settle
      yield* connection.sendAll([1, 2, 3, 4, 5].map(message))
      yield* peer.demand(Infinity)
      let before = ""
      for (const i of [0, 4, 5]) {
        assert.strictEqual(messageOf([yield* peer.frame], bytesOf(before)), message(i))
        before += message(i)
      }
    }))
})

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const Content = Schema.Struct({
  isText: Schema.Boolean,
  isRandom: Schema.Boolean,
  size: Schema.Literals([0, 1, 20, 120, 700, 5000, 40_000]),
  seed: between(1, 3)
})

const Sent = Schema.TaggedUnion({
  Message: { content: Content },
  Prepared: { content: Content },
  Stream: { contents: Schema.Array(Content).check(Schema.isMaxLength(4)), isText: Schema.Boolean },
  Ping: {},
  Settle: {}
})

const contentOf = ({ isRandom, isText, seed, size }: typeof Content.Type): string | Uint8Array => {
  if (isRandom) return isText ? Array.from(random(size >> 2, seed)).join("-").slice(0, size) : random(size, seed)
  const words = `${text}κόσμε ${seed} `
  const repeated = words.repeat(Math.ceil(size / words.length)).slice(0, size)
  return isText ? repeated : bytesOf(repeated)
}

const bits = Schema.Literals([8, 9, 10, 11, 12, 13, 14, 15])

describe("any sequence of messages, any agreement, any cut of the bytes", () => {
  it.effect.prop(
    "§7.2: arrives as it was sent",
    {
      script: Arbitrary.array(Arbitrary.schema(Sent), { maxLength: 20 }),
      role: Schema.Literals(roles),
      contextTakeover: Schema.Boolean,
      windowBits: bits,
      threshold: Schema.Literals([0, 100, 1024]),
      level: Schema.Literals([1, 6, 9]),
      chunkBytes: Schema.Literals([7, 100, 1000, 100_000]),
      bufferBytes: Schema.Literals([0, 1000, 100_000])
    },
    ({ bufferBytes, chunkBytes, contextTakeover, level, role, script, threshold, windowBits }) =>
      Effect.gen(function*() {
        const { client: one, server: other } = yield* TestLink.make({ chunkBytes, bufferBytes })
        const deflate = negotiated({
          contextTakeover,
          windowBits: windowBits as WindowBits,
          options: { level, threshold }
        })
        const make = (transport: typeof one, isClient: boolean) =>
          Effect.flatMap(
            Connection.settings({ maskKey: isClient ? () => 0x1234_5678 : undefined }),
            (settings) => Connection.make(transport, settings, { handshake, deflate })
          )
        const sender = yield* make(one, role === "client")
        const receiver = yield* make(other, role === "server")
        yield* Effect.addFinalizer(() => Effect.andThen(sender.abort, receiver.abort))
        const expected: Array<string | Uint8Array> = []
        const sending = Effect.gen(function*() {
          for (const each of script) {
            switch (each._tag) {
              case "Message":
                yield* sender.send(contentOf(each.content))
                break
              case "Prepared":
                yield* sender.send(prepare(contentOf(each.content)))
                break
              case "Stream": {
                const contents = each.contents.map((content) => contentOf({ ...content, isText: each.isText }))
                yield* sender.sendStream(Stream.fromIterable(contents as Array<string>))
                break
              }
              case "Ping":
                yield* sender.ping
                break
              case "Settle":
                yield* settle
            }
          }
        })
        for (const each of script) {
          if (each._tag === "Message" || each._tag === "Prepared") expected.push(contentOf(each.content))
          if (each._tag === "Stream" && each.contents.length > 0) {
            const contents = each.contents.map((content) => contentOf({ ...content, isText: each.isText }))
            expected.push(
              each.isText ? contents.join("") : new Uint8Array(Buffer.concat(contents as Array<Uint8Array>))
            )
          }
        }
        const fiber = yield* start(sending)
        for (const message of expected) assert.deepStrictEqual(yield* receiver.receive, message)
        yield* Fiber.join(fiber)
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 300 } }
  )
})
