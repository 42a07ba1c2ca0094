import { Transport, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { TestLink, TestNetwork, Transcript, WebSocketProbe, Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema, Stream } from "effect"
import * as Arbitrary from "effect/Arbitrary"
import { TestClock } from "effect/testing"

const Echo = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
)

const complete = { maxBytes: Infinity }

/** What a client and a server say, recorded at the client. */
const session = Effect.gen(function*() {
  const record = yield* Transcript.recorder
  const recordings: Array<Transcript.Recording> = []
  yield* Effect.gen(function*() {
    const connection = yield* WebSocketClient.connect("ws://localhost")
    yield* connection.send("hello \"ü\"\n")
    yield* connection.receive
    yield* TestClock.adjust("1500 millis")
    yield* connection.send(Uint8Array.of(0, 255))
    yield* connection.receive
    yield* connection.sendStream(Stream.make("frag", "ment"))
    yield* connection.receive
    yield* connection.close(4000, "enough")
  }).pipe(
    Effect.scoped,
    Effect.provide(Layer.provideMerge(
      Echo,
      TestNetwork.layerWith({
        wrap: (transport, role) => {
          if (role === "server") return transport
          const recording = record(transport)
          recordings.push(recording)
          return recording.transport
        }
      })
    ))
  )
  return yield* recordings[0]!.entries
})

describe("a transcript", () => {
  it.effect("tells what passed, in order, as a table", () =>
    Effect.gen(function*() {
      const entries = yield* session
      assert.deepStrictEqual(Transcript.format(entries).split("\n"), [
        "       0 -> text               11 \"hello \\\"ü\\\"\\n\"",
        "       0 <- text               11 \"hello \\\"ü\\\"\\n\"",
        "    1500 -> binary              2 00ff",
        "    1500 <- binary              2 00ff",
        "    1500 -> text+               4 \"frag\"",
        "    1500 -> continuation+       4 \"ment\"",
        "    1500 -> continuation        0 \"\"",
        "    1500 <- text                8 \"fragment\"",
        "    1500 -> close               8 4000 \"enough\"",
        "    1500 <- close               8 4000 \"enough\"",
        "    1500 <- end",
        "    1500 -> end",
        "    1500 <- closed"
      ])
    }))

  it.effect("is read as it was written", () =>
    Effect.gen(function*() {
      const entries = yield* session
      assert.deepStrictEqual(yield* Transcript.parse(Transcript.format(entries, complete)), entries)
    }))

  it.effect.prop(
    "is read as it was written, whatever the frames",
    {
      frames: Arbitrary.array(Arbitrary.schema(Schema.Struct({
        opcode: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 15 })),
        rsv: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 7 })),
        fin: Schema.Boolean,
        payload: Schema.Uint8Array
      })))
    },
    ({ frames }) =>
      Effect.gen(function*() {
        const entries = frames.map((frame, i): Transcript.Entry => ({
          _tag: "Frame",
          at: i * 1000,
          direction: i % 2 === 0 ? "sent" : "received",
          frame
        }))
        assert.deepStrictEqual(yield* Transcript.parse(Transcript.format(entries, complete)), entries)
      })
  )

  it.effect.each([
    { what: "text that is cut", line: "       0 -> text              100 \"xxx\"..." },
    { what: "binary that is cut", line: "       0 -> binary            100 0000..." },
    { what: "another length", line: "       0 -> text               4 \"hello\"" },
    { what: "an unknown opcode", line: "       0 -> telegram           1 \"x\"" },
    { what: "no direction", line: "       0 text               1 \"x\"" },
    { what: "half a byte", line: "       0 -> binary             1 0" }
  ])("is refused with the number of the line: $what", ({ line }) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Transcript.parse(`# a comment\n\n${line}\n`))
      assert.deepInclude({ ...error }, { line: 3, text: line })
    }))

  it.effect("keeps what was read, though the transport uses its memory again", () =>
    Effect.gen(function*() {
      const record = yield* Transcript.recorder
      let handler: Transport.TransportHandler | undefined
      const ignore = () => {}
      const { entries, transport } = record({
        peerAddress: undefined,
        localAddress: undefined,
        capabilities: Transport.allCapabilities,
        start: (given) => {
          handler = given
        },
        pause: ignore,
        resume: ignore,
        write: () => true,
        end: ignore,
        destroy: ignore
      })
      transport.start({
        onData: (chunk) => chunk.fill(0),
        onDrain: ignore,
        onOverrun: ignore,
        onEnd: ignore,
        onClose: ignore
      })
      for (const frame of [Wire.text("plain", { masked: false }), Wire.text("masked")]) {
        handler!.onData(Buffer.from(Wire.encode("client", [frame])))
      }
      const lines = Transcript.format(yield* entries).split("\n").map((line) => line.replaceAll(/ +/g, " "))
      assert.deepStrictEqual(lines, [" 0 <- text 5 \"plain\"", " 0 <- text 6 \"masked\""])
    }))

  it.effect("forgets its beginning where it is told how much to keep", () =>
    Effect.gen(function*() {
      const link = yield* TestLink.make()
      const recording = (yield* Transcript.recorder)(link.client, { maxBytes: 3 * (64 + 10) })
      const client = yield* WebSocketProbe.make(recording.transport, "client")
      const server = yield* WebSocketProbe.make(link.server, "server")
      for (let i = 0; i < 10; i++) yield* client.sendText(String(i).repeat(10))
      yield* server.sendText("too long".repeat(100))
      yield* client.expectText()
      // Not even that fits.
      assert.deepStrictEqual(yield* recording.entries, [])
      yield* client.sendText("a".repeat(10), "b".repeat(10), "c".repeat(10), "d".repeat(10))
      assert.deepStrictEqual(
        (yield* recording.entries).map((entry) => entry._tag === "Frame" && entry.frame.payload[0]),
        [0x62, 0x63, 0x64]
      )
    }))

  it.effect("shows the beginning of a long payload", () =>
    Effect.gen(function*() {
      const link = yield* TestLink.make()
      const probe = yield* WebSocketProbe.make(link.client, "client")
      yield* probe.send(Wire.text("x".repeat(100)), Wire.binary(new Uint8Array(100)))
      const [text = "", binary = ""] = Transcript.format(yield* probe.transcript, { maxBytes: 3 }).split("\n")
      assert.strictEqual(text, "       0 -> text              100 \"xxx\"...")
      assert.strictEqual(binary, "       0 -> binary            100 000000...")
    }))
})

describe("an application's own connections", () => {
  it.effect("are recorded in either role by their option", () =>
    Effect.gen(function*() {
      const record = yield* Transcript.recorder
      const recordings: Array<Transcript.Recording> = []
      const wrap = (transport: Transport.Transport) => {
        const recording = record(transport)
        recordings.push(recording)
        return recording.transport
      }
      yield* Effect.gen(function*() {
        const connection = yield* WebSocketClient.connect("ws://localhost", { wrap })
        yield* connection.send("hello")
        yield* connection.receive
      }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(Echo, TestNetwork.layerWith({ server: { wrap } }))))
      const [server = [], client = []] = yield* Effect.forEach(recordings, ({ entries }) => entries)
      assert.strictEqual(
        Transcript.format(client.slice(0, 4)),
        [
          "       0 -> text                5 \"hello\"",
          "       0 <- text                5 \"hello\"",
          "       0 -> close               2 1000 \"\"",
          "       0 <- close               2 1000 \"\""
        ].join("\n")
      )
      assert.strictEqual(
        Transcript.format(Transcript.mirrored(server).slice(0, 4)),
        Transcript.format(client.slice(0, 4))
      )
    }))
})

describe("a replay", () => {
  const App = Layer.provideMerge(Echo, TestNetwork.layer)

  it.effect("of a client's transcript goes through against the server that it was recorded with", () =>
    Effect.gen(function*() {
      const entries = yield* session
      yield* Effect.gen(function*() {
        const probe = yield* WebSocketProbe.connect("ws://localhost")
        yield* WebSocketProbe.replay(probe, entries)
      }).pipe(Effect.provide(App))
    }))

  it.effect("of the mirrored transcript plays the server", () =>
    Effect.gen(function*() {
      const entries = yield* session
      const link = yield* TestLink.make()
      const client = yield* WebSocketProbe.make(link.client, "client")
      const server = yield* WebSocketProbe.make(link.server, "server")
      yield* Effect.all([
        WebSocketProbe.replay(client, entries),
        WebSocketProbe.replay(server, Transcript.mirrored(entries))
      ], { concurrency: "unbounded" })
    }))

  it.effect("fails where the other side does something else", () =>
    Effect.gen(function*() {
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      const entries = yield* Transcript.parse("0 -> text 1 \"a\"\n0 <- text 1 \"b\"")
      const error = yield* Effect.flip(WebSocketProbe.replay(probe, entries))
      assert.match(error.message, /^expected text 1 "b", but got text 1 "a"\n/)
    }).pipe(Effect.provide(App)))
})
