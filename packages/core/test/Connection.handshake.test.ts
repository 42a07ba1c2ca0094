import * as Attachment from "@effect-ws/core/Attachment"
import * as Connection from "@effect-ws/core/Connection"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import { handshake, link, open, roles } from "./fixture.ts"

describe("what the handshake settled", () => {
  it.effect.each(roles)("is told by the connection (%s)", (role) =>
    Effect.gen(function*() {
      const settled: Connection.HandshakeResult = {
        subprotocol: "chat",
        extensions: [{ name: "x-test", parameters: [["level", "9"]] }],
        request: { url: "/room?id=1", headers: { host: "example.com" } },
        response: { status: 101, headers: { upgrade: "websocket" } }
      }
      const { connection } = yield* open({ role, handshake: settled })
      assert.isTrue(Connection.isConnection(connection))
      assert.strictEqual(connection.role, role)
      assert.deepStrictEqual(connection.subprotocol, Option.some("chat"))
      assert.deepStrictEqual(connection.extensions, settled.extensions)
      assert.deepStrictEqual(connection.request, settled.request)
      assert.deepStrictEqual(connection.response, settled.response)
      assert.deepStrictEqual(connection.peerAddress, Option.some({ _tag: "Tcp", host: "192.0.2.1", port: 50_000 }))
      assert.deepStrictEqual(connection.localAddress, Option.some({ _tag: "Unix", path: "/run/test.sock" }))
    }))

  it.effect("what there is not is none", () =>
    Effect.gen(function*() {
      const { peer, transport } = yield* link("client")
      const connection = yield* Connection.make(transport, yield* Connection.settings({}), { handshake })
      yield* Effect.addFinalizer(() => peer.reset)
      assert.deepStrictEqual(connection.subprotocol, Option.none())
      assert.deepStrictEqual(connection.extensions, [])
      assert.deepStrictEqual(connection.peerAddress, Option.none())
      assert.deepStrictEqual(connection.localAddress, Option.none())
      assert.isFalse(Connection.isConnection(peer))
    }))
})

describe("attachments", () => {
  const User = Attachment.make<{ readonly name: string }>("User")
  const Visits = Attachment.make<number | undefined>("Visits")

  it.effect("a value is found under its key, and replaced", () =>
    Effect.gen(function*() {
      const { connection } = yield* open()
      assert.deepStrictEqual(yield* connection.attachment(User), Option.none())
      yield* connection.attach(User, { name: "a" })
      yield* connection.attach(Visits, 1)
      yield* connection.attach(User, { name: "b" })
      assert.deepStrictEqual(yield* connection.attachment(User), Option.some({ name: "b" }))
      assert.deepStrictEqual(yield* connection.attachment(Visits), Option.some(1))
    }))

  it.effect("undefined is a value", () =>
    Effect.gen(function*() {
      const { connection } = yield* open()
      yield* connection.attach(Visits, undefined)
      assert.deepStrictEqual(yield* connection.attachment(Visits), Option.some(undefined))
    }))

  it.effect("keys of the same name do not clash", () =>
    Effect.gen(function*() {
      const { connection } = yield* open()
      yield* connection.attach(User, { name: "a" })
      assert.deepStrictEqual(yield* connection.attachment(Attachment.make("User")), Option.none())
    }))

  it.effect("a connection has its own", () =>
    Effect.gen(function*() {
      const one = yield* open()
      const other = yield* open()
      yield* one.connection.attach(User, { name: "a" })
      assert.deepStrictEqual(yield* other.connection.attachment(User), Option.none())
    }))
})
