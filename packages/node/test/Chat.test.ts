import { type Connection, WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { connect } from "node:net"
import * as ChatProcess from "./chatProcess.ts"

const join = (chat: { readonly webSocketUrl: string }, name: string) =>
  WebSocketClient.connect(`${chat.webSocketUrl}?${new URLSearchParams({ name })}`)

// The next event of one kind; those before it are not of interest.
const next = Effect.fnUntraced(function*(connection: Connection.Connection, tag: string) {
  while (true) {
    const event = JSON.parse(String(yield* connection.receive))
    if (event._tag === tag) return event
  }
})

const say = (text: string) => JSON.stringify({ _tag: "Say", text })

describe("the chat's server", () => {
  it.live("names are made distinct, and free again when their owner left", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start
      const ada = yield* join(chat, "Ada")
      assert.deepStrictEqual((yield* next(ada, "Welcome")).you.name, "Ada")
      const second = yield* join(chat, "  ada ")
      const welcome = yield* next(second, "Welcome")
      assert.deepStrictEqual(welcome.you.name, "ada 2")
      assert.deepStrictEqual(welcome.people.map(({ name }: { name: string }) => name), ["Ada", "ada 2"])
      yield* ada.abort
      yield* next(second, "Left")
      assert.deepStrictEqual((yield* next(yield* join(chat, "ADA"), "Welcome")).you.name, "ADA")
    }).pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer)), 60_000)

  it.live("whatever is sent to it, it ends that connection at most", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start
      const witness = yield* join(chat, "witness")
      for (const name of ["", "   ", "x".repeat(25), "a\nb", "\u202e"]) {
        const error = yield* Effect.flip(join(chat, name))
        assert.strictEqual(error._tag === "ConnectError" && error.reason._tag, "UpgradeRejected")
      }
      const endings: Array<readonly [message: string | Uint8Array, code: number]> = [
        ["", 1007],
        ["nonsense", 1007],
        ["{\"_tag\":\"Said\",\"text\":\"x\"}", 1007],
        ["[".repeat(4000), 1007],
        [say(""), 1007],
        [say("x".repeat(501)), 1007],
        [new Uint8Array(10), 1007],
        [say("x".repeat(5000)), 1009]
      ]
      for (const [message, code] of endings) {
        const connection = yield* join(chat, "Mallory")
        yield* connection.send(message)
        assert.strictEqual((yield* connection.closed).code, code)
        assert.strictEqual((yield* next(witness, "Left")).person.name, "Mallory")
      }
      const abused = connect(Number(new URL(chat.url).port), "127.0.0.1")
      abused.write("GET /chat?name=%ff HTTP/1.1\r\nupgrade: websocket\r\n")
      abused.resetAndDestroy()
      yield* witness.send(say("still here"))
      assert.strictEqual((yield* next(witness, "Said")).text, "still here")
    }).pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer)), 60_000)

  it.live("ends on SIGTERM with 1001 for all", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start
      const connections = yield* Effect.forEach(["a", "b", "c"], (name) => join(chat, name))
      assert.strictEqual(yield* chat.stop("SIGTERM"), 130)
      for (const connection of connections) {
        const { code, wasClean } = yield* connection.closed
        assert.deepStrictEqual([code, wasClean], [1001, true])
      }
    }).pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer)), 60_000)

  it.live("a port in use is told in one line", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start
      const { port } = new URL(chat.url)
      const { status, stderr } = spawnSync(process.execPath, [ChatProcess.main], { env: { PORT: port } })
      assert.strictEqual(status, 1)
      assert.match(String(stderr), /EADDRINUSE.*npm start -- --port \d+/)
    }).pipe(Effect.scoped), 60_000)
})
