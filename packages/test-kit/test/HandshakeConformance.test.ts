import { HandshakeRequest, WebSocketServer } from "@effect-ws/core"
import { Conformance, HandshakeConformance, TestNetwork } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"

const Echo = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
)

const url = "ws://localhost:8080/echo"

const failures = (results: ReadonlyArray<Conformance.Result>) =>
  results.filter(({ _tag }) => _tag === "Failed").map(({ rule }) => rule.title)

describe("conformance of the opening handshake (RFC 6455, section 4)", () => {
  it.effect("a server of the network keeps every rule that is not about bytes", () =>
    Effect.gen(function*() {
      const results = yield* HandshakeConformance.run(HandshakeConformance.inNetwork(url))
      assert.deepStrictEqual(failures(results), [], Conformance.report(results))
      const skipped = results.filter(({ _tag }) => _tag === "Skipped")
      assert.deepStrictEqual(Array.from(new Set(skipped.map(({ topic }) => topic))), ["heads", "leaving", "slow"])
      assert.isAtLeast(results.length - skipped.length, 35)
    }).pipe(Effect.provide(Layer.provideMerge(Echo, TestNetwork.layer))))

  it.effect("finds a server out that takes every origin, and tells what it answered", () =>
    Effect.gen(function*() {
      const { origins } = HandshakeConformance.rules
      const results = yield* HandshakeConformance.run(HandshakeConformance.inNetwork(url), { origins: origins! })
      assert.lengthOf(failures(results), 7)
      assert.include(
        Conformance.report(results),
        "origins           2 passed    7 failed    0 skipped\n\n§10.2 refused: the origin \"http://evil.example\"\n" +
          "the status is 101, not 403"
      )
    }).pipe(
      Effect.provide(Layer.provideMerge(Echo, TestNetwork.layerWith({ server: { origin: { allow: "any" } } })))
    ))

  it.effect("finds a server out that serves nobody any more", () => {
    const broken = WebSocketServer.serve(() => Effect.void, {
      handshake: (): Effect.Effect<{ readonly data: void }, HandshakeRequest.HandshakeRejected> =>
        Effect.fail(new HandshakeRequest.HandshakeRejected({ status: 500 }))
    })
    return Effect.gen(function*() {
      const { opening } = HandshakeConformance.rules
      const results = yield* HandshakeConformance.run(HandshakeConformance.inNetwork(url), {
        opening: opening!.filter(({ title }) => title === "refused: no key")
      })
      assert.deepStrictEqual(failures(results), ["refused: no key"])
    }).pipe(Effect.provide(Layer.provideMerge(broken, TestNetwork.layer)))
  })
})
