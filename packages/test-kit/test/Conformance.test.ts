import { Connection, type Transport } from "@effect-ws/core"
import { Opcode, type Role } from "@effect-ws/core/protocol/Frame"
import { Conformance, TestLink } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"

const handshake: Connection.HandshakeResult = {
  subprotocol: undefined,
  extensions: [],
  request: { url: "/", headers: {} },
  response: { status: 101, headers: {} }
}

/** A connection that sends everything back, over a link. */
const echo = (
  role: Role,
  options: Connection.SettingsOptions = {},
  behaviour: Partial<TestLink.Behaviour> = {}
): Conformance.Endpoint => ({
  role,
  hasLimits: true,
  open: Effect.fnUntraced(function*(limits) {
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
    const connection = yield* Connection.make(own!, settings, { handshake })
    yield* Effect.forkScoped(
      Stream.runForEach(connection.messages, (message) => connection.send(message)).pipe(Effect.ignore)
    )
    return other!
  })
})

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
