import { MessageCodec, TypedConnection } from "@effect-ws/core"
import { MessagePack } from "@effect-ws/msgpack"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import { connect, start } from "./fixture.ts"
import { closeOf, frame, upgradeRaw } from "./rawPeer.ts"

const Question = Schema.TaggedUnion({
  Measure: { bytes: Schema.Uint8Array },
  Add: { numbers: Schema.Array(Schema.Finite) }
})
const Answer = Schema.TaggedUnion({
  Length: { bytes: Schema.Int },
  Sum: { sum: Schema.Finite }
})

const formats = [
  { format: "JSON", incoming: MessageCodec.json(Question), outgoing: MessageCodec.json(Answer) },
  { format: "MessagePack", incoming: MessagePack.codec(Question), outgoing: MessagePack.codec(Answer) }
]

describe.each(formats)("$format over sockets", ({ format, incoming, outgoing }) => {
  const Serving = TypedConnection.serve({ incoming, outgoing }, (client) => {
    const answer = Question.match({
      Measure: ({ bytes }) => client.send({ _tag: "Length", bytes: bytes.length }),
      Add: ({ numbers }) => client.send({ _tag: "Sum", sum: numbers.reduce((a, b) => a + b, 0) })
    })
    return Stream.runForEach(client.messages, answer)
  })

  it.live("values of any size are asked and answered in order, in both roles", () =>
    Effect.gen(function*() {
      const { url } = yield* start(Serving)
      const server = yield* TypedConnection.connect({ incoming: outgoing, outgoing: incoming }, url)
      const asked = Array.from({ length: 1000 }, (_, i) => {
        if (i % 100 === 0) return { _tag: "Measure", bytes: new Uint8Array(i * 100) } as const
        return { _tag: "Add", numbers: [i, 0.5] } as const
      })
      yield* Effect.forkChild(server.sendAll(asked))
      const answers = yield* server.messages.pipe(Stream.take(asked.length), Stream.runCollect)
      assert.deepStrictEqual(
        answers,
        asked.map((question, i) =>
          question._tag === "Measure" ? { _tag: "Length", bytes: i * 100 } : { _tag: "Sum", sum: i + 0.5 }
        )
      )
      yield* server.connection.close()
    }).pipe(Effect.provide(NodeWebSocketClient.layer)))

  it.live("who sends what does not decode is told 1003 or 1007, and the others go on", () =>
    Effect.gen(function*() {
      const { port, url } = yield* start(Serving)
      const other = TypedConnection.make(yield* connect(url), { incoming: outgoing, outgoing: incoming })
      const codes: Array<number | undefined> = []
      for (const opcode of ["text", "binary"] as const) {
        const peer = yield* upgradeRaw(port, "/")
        yield* peer.send(frame(opcode, "7"))
        codes.push(closeOf(yield* peer.frame)?.code)
        yield* peer.reset
      }
      assert.deepStrictEqual(codes, format === "JSON" ? [1007, 1003] : [1003, 1007])
      yield* other.send({ _tag: "Add", numbers: [1, 2] })
      assert.deepStrictEqual(yield* other.receive, { _tag: "Sum", sum: 3 })
    }))
})
