import { Connection } from "@effect-ws/core"
import { Engine } from "@effect-ws/core/protocol/Engine"
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import { portable } from "@effect-ws/core/protocol/Utf8"
import { TestLink, WebSocketProbe, Wire, WireArbitrary } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Arbitrary from "effect/Arbitrary"

const limits = { maxMessageBytes: 1024 * 1024, maxFragments: 1024, maxControlFramesPerSecond: 1000 }

describe("arbitraries", () => {
  it.prop("§5.4: a fragmented message arrives as it was, however its bytes are cut", {
    sent: Arbitrary.array(WireArbitrary.fragmented, { maxLength: 3 }),
    chunking: WireArbitrary.chunking
  }, ({ chunking, sent }) => {
    const engine = new Engine({ role: "server", limits, utf8: portable })
    const bytes = Wire.encode("client", sent.flatMap(({ frames }) => frames))
    const chunks = chunking(bytes)
    assert.strictEqual(chunks.reduce((sum, { length }) => sum + length, 0), bytes.length)
    for (const chunk of chunks) engine.receive(chunk.slice(), 0)
    assert.strictEqual(engine.state._tag, "Open")
    assert.deepStrictEqual(engine.takeMessages() ?? [], sent.map(({ message }) => message))
  }, { arbitrary: { runs: 200, seed: 1 } })

  it.effect.prop(
    "whatever a hostile peer sends, a connection ends in a typed way, and nothing dies",
    { bytes: WireArbitrary.hostile("client"), chunking: WireArbitrary.chunking },
    ({ bytes, chunking }) =>
      Effect.gen(function*() {
        const link = yield* TestLink.make()
        const connection = yield* Connection.make(link.server, yield* Connection.settings({}), {
          handshake: {
            subprotocol: undefined,
            extensions: [],
            request: { url: "/", headers: {} },
            response: { status: 101, headers: {} }
          }
        })
        const probe = yield* WebSocketProbe.make(link.client, "client")
        yield* Effect.addFinalizer(() => link.reset)
        for (const chunk of chunking(bytes)) yield* probe.sendBytes(chunk)
        yield* probe.end
        const end = yield* Effect.result(Stream.runDrain(connection.messages))
        if (end._tag === "Failure") assert.strictEqual(end.failure._tag, "ConnectionError")
        const event = yield* connection.closed
        assert.isAtLeast(event.code, 1000)
      }).pipe(Effect.scoped),
    { arbitrary: { runs: 200, seed: 1 } }
  )

  it.prop("§4.2.1: an opening request is accepted if it is legal, and only then", {
    request: WireArbitrary.openingRequest
  }, ({ request }) => {
    assert.strictEqual(Handshake.checkRequest(request)._tag, request.isLegal ? "Accepted" : "HandshakeFailure")
  }, { arbitrary: { runs: 300, seed: 1 } })
})
