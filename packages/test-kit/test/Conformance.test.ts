import { Compression, Connection, type Transport, WebSocketServer } from "@effect-ws/core"
import { Opcode, type Role } from "@effect-ws/core/protocol/Frame"
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import { parseUrl } from "@effect-ws/core/protocol/WebSocketUrl"
import { NodeCompression } from "@effect-ws/node"
import { Conformance, HandshakeRule, TestLink, TestNetwork } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Stream } from "effect"

const handshake: Connection.HandshakeResult = {
  subprotocol: undefined,
  extensions: [],
  request: { url: "/", headers: {} },
  response: { status: 101, headers: {} }
}

const compressing = Compression.settle(NodeCompression.compression, true)!

/** A connection that sends everything back, over a link. */
const echo = (
  role: Role,
  options: Connection.SettingsOptions = {},
  behaviour: Partial<TestLink.Behaviour> = {}
): Conformance.Endpoint => ({
  role,
  hasLimits: true,
  hasDeflate: true,
  open: Effect.fnUntraced(function*(limits, deflate) {
    const link = yield* TestLink.make()
    yield* link.set(behaviour, role === "server" ? "toClient" : "toServer")
    const [own, other]: ReadonlyArray<Transport.Transport> = role === "server"
      ? [link.server, link.client]
      : [link.client, link.server]
    const settings = yield* Connection.settings({
      maskKey: role === "client" ? () => 0x1234_5678 : undefined,
      ...limits,
      ...options
    })
    const connection = yield* Connection.make(own!, settings, {
      handshake,
      deflate: deflate ? { settings: compressing, agreed: compressing.wanted } : undefined
    })
    yield* Effect.forkScoped(
      Stream.runForEach(connection.messages, (message) => connection.send(message)).pipe(Effect.ignore)
    )
    return other!
  })
})

/** A server that sends everything back, in a network of its own for each connection. */
const networked: Conformance.Endpoint<unknown> = {
  role: "server",
  hasLimits: true,
  hasDeflate: true,
  open: Effect.fnUntraced(function*(limits, deflate) {
    const serving = WebSocketServer.serve((connection) =>
      Stream.runForEach(connection.messages, (message) => connection.send(message))
    )
    const { compression } = NodeCompression
    const context = yield* Layer.build(
      Layer.provideMerge(serving, TestNetwork.layerWith({ compression, server: { ...limits, deflate } }))
    )
    const url = parseUrl("ws://localhost")
    if (url._tag === "InvalidUrl") return yield* Effect.die(url)
    const { transport } = yield* Context.get(context, TestNetwork.TestNetwork).dial({
      url,
      headers: Handshake.requestHeaders({
        key: HandshakeRule.sampleKey,
        host: url.hostHeader,
        subprotocols: [],
        headers: {},
        extensions: deflate ? [{ name: "permessage-deflate", parameters: [] }] : []
      })
    })
    return transport
  })
}

const titlesOf = (results: ReadonlyArray<Conformance.Result>, tag: Conformance.Result["_tag"]) =>
  results.filter(({ _tag }) => _tag === tag).map(({ rule }) => rule.title)

describe("conformance", () => {
  it.effect.each(["server", "client"] as const)("a connection keeps every rule (%s)", (role) =>
    Effect.gen(function*() {
      const results = yield* Conformance.run(echo(role))
      assert.deepStrictEqual(titlesOf(results, "Failed"), [], Conformance.report(results))
      assert.isAtLeast(titlesOf(results, "Passed").length, 240)
      assert.isAtMost(titlesOf(results, "Skipped").length, 30)
    }), 60_000)

  it.effect.each(["server", "client"] as const)(
    "a connection withstands every attack (%s)",
    (role) =>
      Effect.gen(function*() {
        const results = yield* Conformance.run(echo(role), Conformance.attacks)
        assert.deepStrictEqual(titlesOf(results, "Failed"), [], Conformance.report(results))
        assert.isTrue(results.every(({ _tag }) => _tag === "Passed"))
      }),
    60_000
  )

  it.effect("a server of a network keeps every rule and withstands every attack", () =>
    Effect.gen(function*() {
      const results = yield* Conformance.run(networked, { ...Conformance.rules, ...Conformance.attacks })
      assert.deepStrictEqual(titlesOf(results, "Failed"), [], Conformance.report(results))
      assert.isAtLeast(titlesOf(results, "Passed").length, 250)
    }), 60_000)

  it.effect("finds an endpoint out that takes everything from a peer that does not read", () =>
    Effect.gen(function*() {
      const results = yield* Conformance.run(
        echo("server", { maxQueuedBytes: Infinity, maxQueuedMessages: Infinity }),
        {
          hostile: Conformance.attacks["hostile"]!.filter(({ title }) => title.startsWith("a peer that does not read"))
        }
      )
      assert.lengthOf(titlesOf(results, "Failed"), 1)
      assert.include(Conformance.report(results), "50331648 bytes are taken from a peer that does not read")
    }), 60_000)

  it.effect("an endpoint without limits is not asked about them", () =>
    Effect.gen(function*() {
      const results = yield* Conformance.run({ ...echo("server"), hasLimits: false })
      assert.deepStrictEqual(titlesOf(results, "Failed"), [], Conformance.report(results))
      assert.isAtLeast(results.filter(({ _tag, topic }) => _tag === "Skipped" && topic === "limited").length, 40)
    }), 60_000)

  it.effect("finds an endpoint out that takes one byte too much, and tells what passed", () =>
    Effect.gen(function*() {
      const results = yield* Conformance.run(echo("server", { maxMessageBytes: 17 }), {
        limited: Conformance.rules["limited"]!.filter(({ title }) => /^a message (of 17 bytes|may)/.test(title))
      })
      assert.deepStrictEqual(titlesOf(results, "Failed"), ["a message of 17 bytes is refused at its header"])
      assert.strictEqual(
        Conformance.report(results),
        [
          "limited           3 passed    1 failed    0 skipped",
          "",
          "§7.4.1 a message of 17 bytes is refused at its header",
          "there was no Close",
          ""
        ].join("\n")
      )
    }))

  it.effect.each([
    { what: "Pongs", opcode: Opcode.pong, title: /^the payload of a Ping need not be text$/ },
    { what: "Closes", opcode: Opcode.close, title: /is reserved, final$/ }
  ])("finds an endpoint out whose $what are missing", ({ opcode, title }) =>
    Effect.gen(function*() {
      const rules = Object.values(Conformance.rules).flat().filter((rule) => title.test(rule.title)).slice(0, 1)
      const results = yield* Conformance.run(echo("server", {}, { swallow: [opcode] }), { some: rules })
      assert.lengthOf(titlesOf(results, "Failed"), 1)
    }))
})
