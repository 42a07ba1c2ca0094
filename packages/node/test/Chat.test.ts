import { Rooms, TypedConnection, WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { TestNetwork, VirtualTime } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"
import { spawnSync } from "node:child_process"
import { connect } from "node:net"
import { Chat } from "../../../examples/chat/Chat.ts"
import * as Protocol from "../../../examples/chat/Protocol.ts"
import * as ChatProcess from "./chatProcess.ts"
import { hear, join, next } from "./chatProcess.ts"

const withClient = <A, E>(effect: Effect.Effect<A, E, WebSocketClient.WebSocketClient>) =>
  Effect.provide(effect, NodeWebSocketClient.layer)

const texts = (said: ReadonlyArray<{ readonly text: string }>) => said.map(({ text }) => text)

describe("the chat's server", { timeout: 60_000 }, () => {
  it.live("tells who is in, who comes and who goes, and what was said before", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start()
      const ada = yield* join(chat, "Ada")
      yield* ada.send({ _tag: "Say", text: "one" })
      yield* ada.connection.send("{\"_tag\":\"Say\",\"text\":\" two \"}")
      assert.deepStrictEqual(texts(yield* hear(ada, 2)), ["one", "two"])
      const grace = yield* join(chat, "Grace")
      const { members } = yield* next(grace, "Snapshot")
      assert.deepStrictEqual(members.map(({ metadata }) => metadata.name), ["Ada", "Grace"])
      const said = yield* hear(grace, 2)
      assert.deepStrictEqual(said.map(({ by, text }) => [by.name, text]), [["Ada", "one"], ["Ada", "two"]])
      assert.strictEqual((yield* next(ada, "Joined")).member.metadata.name, "Grace")
      yield* grace.connection.abort
      assert.strictEqual((yield* next(ada, "Left")).member.metadata.name, "Grace")
    }).pipe(Effect.scoped, withClient))

  it.live("a page that comes back gets what it has missed, once", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start()
      const ada = yield* join(chat, "Ada")
      const grace = yield* join(chat, "Grace")
      yield* ada.send({ _tag: "Say", text: "one" })
      const { position } = yield* next(grace, "Said")
      yield* grace.connection.abort
      yield* ada.send({ _tag: "Say", text: "two" })
      yield* hear(ada, 2)
      const again = yield* join(chat, "Grace", position)
      yield* ada.send({ _tag: "Say", text: "three" })
      assert.deepStrictEqual(texts(yield* hear(again, 2)), ["two", "three"])
    }).pipe(Effect.scoped, withClient))

  it.live("a page from a past that is forgotten is told so, and gets what there is", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start()
      const ada = yield* join(chat, "Ada")
      yield* ada.send({ _tag: "Say", text: "one" })
      yield* hear(ada, 1)
      const grace = yield* join(chat, "Grace", { epoch: "another", offset: 7 })
      yield* next(grace, "Gap")
      assert.deepStrictEqual(texts(yield* hear(grace, 1)), ["one"])
    }).pipe(Effect.scoped, withClient))

  it.live("whatever is sent to it, it ends that connection at most", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start()
      const witness = yield* join(chat, "witness")
      const arrivals: ReadonlyArray<Record<string, string>> = [
        {},
        { id: "x" },
        { name: "x" },
        ...["", "   ", "x".repeat(25), "a\nb", "\u202e"].map((name) => ({ id: "x", name })),
        ...["", "a b", "x".repeat(33)].map((id) => ({ id, name: "x" })),
        ...["", "{}", "{\"epoch\":\"x\",\"offset\":-1}", "[".repeat(5000)].map((seen) => ({ id: "x", name: "x", seen }))
      ]
      for (const arrival of arrivals) {
        const url = `${chat.url.replace("http:", "ws:")}/chat?${new URLSearchParams(arrival)}`
        const error = yield* Effect.flip(WebSocketClient.connect(url))
        assert.strictEqual(error._tag === "ConnectError" && error.reason._tag, "UpgradeRejected")
      }
      const say = (text: string) => JSON.stringify({ _tag: "Say", text })
      const endings: Array<readonly [message: string | Uint8Array, code: number]> = [
        ["", 1007],
        ["nonsense", 1007],
        ["{\"_tag\":\"Said\",\"text\":\"x\"}", 1007],
        ["[".repeat(4000), 1007],
        [say(""), 1007],
        [say("x".repeat(501)), 1007],
        [new Uint8Array(10), 1003],
        [say("x".repeat(5000)), 1009]
      ]
      for (const [message, code] of endings) {
        const { connection } = yield* join(chat, "Mallory")
        yield* connection.send(message)
        assert.strictEqual((yield* connection.closed).code, code)
        assert.strictEqual((yield* next(witness, "Left")).member.metadata.name, "Mallory")
      }
      const abused = connect(Number(chat.port), "127.0.0.1")
      abused.write("GET /chat?name=%ff HTTP/1.1\r\nupgrade: websocket\r\n")
      abused.resetAndDestroy()
      yield* witness.send({ _tag: "Say", text: "still here" })
      assert.deepStrictEqual(texts(yield* hear(witness, 1)), ["still here"])
    }).pipe(Effect.scoped, withClient))

  it.live("ends on SIGTERM with 1001 for all", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start()
      const pages = yield* Effect.forEach(["a", "b", "c"], (name) => join(chat, name))
      assert.strictEqual(yield* chat.stop("SIGTERM"), 130)
      for (const { connection } of pages) {
        const { code, wasClean } = yield* connection.closed
        assert.deepStrictEqual([code, wasClean], [1001, true])
      }
    }).pipe(Effect.scoped, withClient))

  it.live("nothing of the page is used again before the server was asked, and effect is not sent again", () =>
    Effect.gen(function*() {
      const { url } = yield* ChatProcess.start()
      const get = (path: string, headers: Record<string, string> = {}) =>
        Effect.promise(() => fetch(`${url}${path}`, { headers }))
      for (const path of ["/", "/page/main.ts", "/modules/@effect-ws/core/Reconnect.ts", "/modules/effect/Effect.js"]) {
        const response = yield* get(path)
        assert.deepStrictEqual([response.status, response.headers.get("cache-control")], [200, "no-cache"])
      }
      const { headers } = yield* get("/modules/effect/Effect.js")
      const again = yield* get("/modules/effect/Effect.js", { "if-none-match": headers.get("etag")! })
      assert.strictEqual(again.status, 304)
      for (
        const path of [
          "/modules/effect/none.js",
          "/modules/@effect-ws/core/none.ts",
          "/modules/effect/..%2fpackage.json"
        ]
      ) {
        assert.strictEqual((yield* get(path)).status, 404)
      }
    }).pipe(Effect.scoped))

  it.live("what is missing for it to start is told in one line", () =>
    Effect.gen(function*() {
      const { port } = yield* ChatProcess.start()
      const failed = (...args: ReadonlyArray<string>) => {
        const { status, stderr } = spawnSync(process.execPath, [ChatProcess.main, ...args])
        assert.strictEqual(status, 1)
        return String(stderr)
      }
      assert.match(failed("--port", port), /EADDRINUSE.*npm start -- --port \d+/)
      assert.match(failed("--workers", "2"), /need --redis/)
      assert.match(failed("--redis", "redis://127.0.0.1:1"), /Redis is out of reach: .*ECONNREFUSED/)
    }).pipe(Effect.scoped))
})

describe("a page that is too slow", () => {
  it.effect("is told what it misses, and closed with 1013 when it falls behind again", () =>
    Effect.gen(function*() {
      const open = (name: string) =>
        TypedConnection.connect(Protocol.page, `ws://test/chat?id=${name}&name=${name}`, { receiveBufferBytes: 1024 })
      const speakers = yield* Effect.replicateEffect(open("Ada"), 10)
      const text = "x".repeat(500)
      // More than the server has at hand for who catches up; and what it keeps is more than it can send to a page that
      // does not read.
      const talk = Effect.forEach(speakers, (speaker) =>
        Effect.andThen(
          speaker.sendAll(Array.from({ length: 110 }, () => ({ _tag: "Say", text }) as const)),
          hear(speaker, 1100)
        ), { concurrency: "unbounded" })
      yield* talk
      const slow = yield* open("Grace")
      yield* talk
      yield* next(slow, "Gap")
      yield* talk
      yield* Effect.ignore(Stream.runDrain(slow.messages))
      const { code, reason } = yield* slow.connection.closed
      assert.deepStrictEqual([code, reason], [1013, "the room goes on too fast"])
    }).pipe(
      Effect.scoped,
      VirtualTime.passing,
      Effect.provide(Chat.pipe(
        Layer.provideMerge(
          TestNetwork.layerWith({ link: { bufferBytes: 4096 }, server: { maxQueuedBytes: 32 * 1024 } })
        ),
        Layer.provide(Rooms.layerMemory)
      ))
    ))
})
