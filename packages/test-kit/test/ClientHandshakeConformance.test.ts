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

type Change = (request: TestNetwork.Request) => TestNetwork.Request

const withTarget = (change: (target: string) => string): Change => (request) => ({
  ...request,
  url: { ...request.url, target: change(request.url.target) }
})

/** Each line of this name becomes these. */
const changingLine = (name: string, change: (value: string) => ReadonlyArray<string>): Change => (request) => ({
  ...request,
  rawHeaders: Object.entries(request.headers).flatMap(([each, value]) =>
    each === name ? change(value).flatMap((changed) => [name, changed]) : [each, value]
  )
})

/** These are the only lines of this name. */
const withLine = (name: string, ...values: ReadonlyArray<string>): Change => (request) => ({
  ...request,
  rawHeaders: Object.entries(request.headers).filter(([each]) => each !== name).flat().concat(
    values.flatMap((value) => [name, value])
  )
})

/** Whatever such a client asks, and whatever the server says, it is told what it wants to hear. */
const credulous = (change: Change = (request) => request) => <A, E, R>(test: Effect.Effect<A, E, R>) =>
  Effect.flatMap(TestNetwork.TestNetwork, ({ dial }) =>
    withBroken({
      open: (request) =>
        Effect.map(dial(change(request)), ({ transport }) => ({
          transport,
          headers: Handshake.joinHeaders(
            Handshake.responseHeaders({ key: request.headers["sec-websocket-key"]!, sha1 })
          )
        }))
    })(test)).pipe(Effect.provide(network))

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

  it.effect.each<readonly [fault: string, change: Change]>([
    ["with GET", (request) => ({ ...request, method: "POST" })],
    ["in HTTP/1.1", (request) => ({ ...request, httpVersion: "1.0" })],
    ["for the path and the query of the URL", withTarget((target) => target.split("?")[0]!)],
    ["for / where the URL has no path", withTarget((target) => target === "/" ? "" : target)],
    ["with the host and port of the URL", withLine("host", "elsewhere.test")],
    ["with the host and port of the URL", withLine("host", "server.test", "server.test")],
    ["for an upgrade to websocket", withLine("upgrade", "h2c")],
    ["with Upgrade as an option of the connection", withLine("connection", "keep-alive")],
    ["with one key: 16 bytes in base64", changingLine("sec-websocket-key", (key) => [key, key])],
    ["with one key: 16 bytes in base64", changingLine("sec-websocket-key", (key) => [key.slice(4)])],
    ["with one key: 16 bytes in base64", changingLine("sec-websocket-key", (key) => [` ${key}`])],
    ["with a key that no other connection has", withLine("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")],
    ["for version 13", withLine("sec-websocket-version", "8")],
    ["for version 13", withLine("sec-websocket-version", "13", "8")],
    [
      "for the subprotocols, each once, in the order of preference",
      changingLine("sec-websocket-protocol", (list) => [list, list])
    ],
    [
      "for the subprotocols, each once, in the order of preference",
      changingLine("sec-websocket-protocol", (list) => [list.split(", ").toReversed().join()])
    ],
    [
      "permessage-deflate, in the grammar of extensions",
      changingLine("sec-websocket-extensions", (list) => [`${list};`])
    ],
    ["without Sec-WebSocket-Accept, which is the server's", withLine("sec-websocket-accept", "a")],
    ["from one origin, if any", withLine("origin", "http://a.test", "http://b.test")],
    ["without a body", withLine("content-length", "5")],
    ["with headers that are HTTP", withLine("x a", "b")],
    ["with headers that are HTTP", withLine("x-a", "b\rc")]
  ])("finds a client out that does not ask: %s", ([fault, change]) =>
    Effect.gen(function*() {
      const { requests } = ClientHandshakeConformance.rules
      const results = yield* run({ requests: requests! })
      assert.deepStrictEqual(
        titlesOf(results, "Failed"),
        [`asks: ${fault}`],
        Conformance.report(results)
      )
    }).pipe(credulous(change)))

  it.effect("tells what is wrong with a request", () =>
    Effect.gen(function*() {
      const { requests } = ClientHandshakeConformance.rules
      const results = yield* run({ requests: requests! })
      assert.include(
        Conformance.report(results),
        "§4.1 asks: with a key that no other connection has\ntwo connections have the key AAAAAAAAAAAAAAAAAAAAAA=="
      )
    }).pipe(withBroken({ randomFill: (bytes) => bytes.fill(0) })))

  it.effect("finds a client out that takes every answer for the right one", () =>
    Effect.gen(function*() {
      const { answers } = ClientHandshakeConformance.rules
      const refusals = answers!.filter(({ title }) => title.startsWith("refused"))
      const results = yield* run({ answers: refusals })
      const applicable = refusals.filter(({ connecting }) => connecting?.subprotocols === undefined)
      assert.isAtLeast(applicable.length, 25)
      assert.includeMembers(titlesOf(results, "Failed"), applicable.map(({ title }) => title))
      assert.match(Conformance.report(results), /§4.1 refused: no accept\nit sent text +12 "still there\?"\n/)
    }).pipe(credulous()))

  it.effect("finds a client out that takes no answer at all", () =>
    Effect.gen(function*() {
      const { answers } = ClientHandshakeConformance.rules
      const results = yield* run({ answers: answers!.slice(0, 1) })
      assert.deepStrictEqual(titlesOf(results, "Failed"), ["taken: an answer that keeps the rules"])
      assert.include(Conformance.report(results), "expected text 12 \"still there?\", but the other side has ended")
    }).pipe(withBroken({ sha1: () => "" })))

  it.effect("finds a client out that does not connect", () =>
    Effect.gen(function*() {
      const endpoint = ClientHandshakeConformance.overTransport({
        url: "ws://localhost",
        hasLimits: false,
        deflate: [false],
        open: () => Effect.never
      })
      const { requests } = ClientHandshakeConformance.rules
      const results = yield* ClientHandshakeConformance.run(endpoint, { requests: requests!.slice(0, 1) })
      assert.include(Conformance.report(results), "§4.1 asks: with GET\nthere was no request")
    }))
})
