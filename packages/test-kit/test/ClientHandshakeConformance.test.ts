import { WebSocketClient } from "@effect-ws/core"
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import { NodeCompression } from "@effect-ws/node"
import { ClientHandshakeConformance, type ClientHandshakeRule, Conformance, TestNetwork } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { createHash } from "node:crypto"

const sha1 = (text: string) => createHash("sha1").update(text).digest("base64")

const titlesOf = (results: ReadonlyArray<Conformance.Result>, tag: Conformance.Result["_tag"]) =>
  results.filter(({ _tag }) => _tag === tag).map(({ rule }) => rule.title)

const run = (tables?: Readonly<Record<string, ReadonlyArray<ClientHandshakeRule.ClientHandshakeRule>>>) =>
  Effect.flatMap(ClientHandshakeConformance.inNetwork, (endpoint) => ClientHandshakeConformance.run(endpoint, tables))

const { compression } = NodeCompression
const network = TestNetwork.layerNetwork({ compression })

/** A network with the client of a platform that is not quite right. */
const withBroken = (broken: Partial<WebSocketClient.Platform>) =>
  Effect.provide(
    Layer.effect(
      WebSocketClient.WebSocketClient,
      Effect.flatMap(TestNetwork.TestNetwork, ({ dial, randomFill }) =>
        WebSocketClient.make({ open: dial, randomFill, sha1, compression, ...broken }))
    ).pipe(Layer.provideMerge(network))
  )

describe("conformance of clients in the opening handshake (RFC 6455, section 4.1)", () => {
  it.effect("the client of the network keeps every rule that is not about bytes", () =>
    Effect.gen(function*() {
      const results = yield* run()
      assert.deepStrictEqual(titlesOf(results, "Failed"), [], Conformance.report(results))
      assert.isAtLeast(titlesOf(results, "Passed").length, 90)
      const skipped = results.filter(({ rule, _tag }) =>
        _tag === "Skipped" && "answer" in rule && rule.answer._tag === "Switch"
      )
      assert.deepStrictEqual(skipped, [])
    }).pipe(Effect.provide(Layer.provideMerge(TestNetwork.layerClient, network))))

  it.effect("finds a client out whose keys are always the same, and tells which", () =>
    Effect.gen(function*() {
      const { requests } = ClientHandshakeConformance.rules
      const results = yield* run({ requests: requests! })
      assert.deepStrictEqual(titlesOf(results, "Failed"), [
        "asks: with a key that no other connection has"
      ])
      assert.include(
        Conformance.report(results),
        "§4.1 asks: with a key that no other connection has\ntwo connections have the key AAAAAAAAAAAAAAAAAAAAAA=="
      )
    }).pipe(withBroken({ randomFill: (bytes) => bytes.fill(0) })))

  it.effect("finds a client out that takes every answer for the right one", () =>
    Effect.gen(function*() {
      const { dial } = yield* TestNetwork.TestNetwork
      // Whatever the server says, the client is told what it wants to hear.
      const open: typeof dial = (request) =>
        Effect.map(dial(request), ({ transport }) => ({
          transport,
          headers: Handshake.joinHeaders(
            Handshake.responseHeaders({ key: request.headers["sec-websocket-key"]!, sha1 })
          )
        }))
      const { answers } = ClientHandshakeConformance.rules
      const refusals = answers!.filter(({ title }) => title.startsWith("refused"))
      const results = yield* run({ answers: refusals }).pipe(withBroken({ open }))
      const applicable = refusals.filter(({ connecting }) => connecting?.subprotocols === undefined)
      assert.isAtLeast(applicable.length, 25)
      assert.includeMembers(titlesOf(results, "Failed"), applicable.map(({ title }) => title))
      assert.match(Conformance.report(results), /§4.1 refused: no accept\nit sent text +12 "still there\?"\n/)
    }).pipe(Effect.provide(network)))

  it.effect("finds a client out that takes no answer at all", () =>
    Effect.gen(function*() {
      const { answers } = ClientHandshakeConformance.rules
      const results = yield* run({ answers: answers!.slice(0, 1) })
      assert.deepStrictEqual(titlesOf(results, "Failed"), ["taken: an answer that keeps the rules"])
      assert.include(Conformance.report(results), "expected text 12 \"still there?\", but the other side has ended")
    }).pipe(withBroken({ sha1: () => "" })))
})
