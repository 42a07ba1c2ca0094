import { Reconnect, TypedConnection, type WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope, Stream } from "effect"
import * as Protocol from "../../../examples/chat/Protocol.ts"
import * as ChatProcess from "./chatProcess.ts"
import { hear, join, next } from "./chatProcess.ts"
import { hasRedis, RedisServer, withRedis } from "./redisServer.ts"

const withClient = <A, E>(effect: Effect.Effect<A, E, RedisServer | WebSocketClient.WebSocketClient | Scope.Scope>) =>
  withRedis(Effect.provide(effect, NodeWebSocketClient.layer))

/** The chat in two processes. */
const start = Effect.gen(function*() {
  const { url } = yield* RedisServer
  return yield* ChatProcess.start("--redis", url, "--workers", "2")
})

const texts = (said: ReadonlyArray<{ readonly text: string }>) => said.map(({ text }) => text)

/** A page that comes back whenever its connection is lost, and tells what it has seen. */
const stay = Effect.fnUntraced(function*(chat: ChatProcess.Chat, name: string) {
  let seen: (typeof Protocol.Arrival.Type)["seen"]
  const target = Effect.sync(() => {
    const person = { id: name.toLowerCase(), name }
    return { url: chat.urlFor(seen === undefined ? person : { ...person, seen }) }
  })
  const connection = yield* Reconnect.connect(target)
  const page = TypedConnection.make(connection, Protocol.page)
  return {
    connection,
    send: page.send,
    receive: Effect.tap(page.receive, (event) =>
      Effect.sync(() => {
        if (event._tag === "Said") seen = event.position
      }))
  }
})

/** In which process the connection ends that a page has now. */
const processOf = <E>(page: ChatProcess.Receiving<E>) => Effect.map(next(page, "Link"), ({ process }) => process)

/** A page whose connection ends in one of the processes that are wanted: who gets a socket, the primary decides. */
const openIn = Effect.fnUntraced(function*<A extends ChatProcess.Receiving<unknown>, E, R>(
  open: Effect.Effect<A, E, R>,
  isWanted: (process: number) => boolean
) {
  while (true) {
    const page = yield* open
    const process = yield* processOf(page)
    if (isWanted(process)) return { page, process }
  }
})

/** One page in each of the two processes. */
const inBoth = Effect.fnUntraced(function*<A extends ChatProcess.Receiving<unknown>, E, R>(
  open: (name: string) => Effect.Effect<A, E, R>
) {
  const { page: ada, process: first } = yield* openIn(open("Ada"), () => true)
  const { page: grace, process: second } = yield* openIn(open("Grace"), (process) => process !== first)
  return { ada, grace, processes: [first, second] }
})

// One after the other: each has three processes.
describe.skipIf(!hasRedis)("the chat in several processes", { timeout: 60_000, concurrent: false }, () => {
  it.live("is one room", () =>
    withClient(Effect.gen(function*() {
      const chat = yield* start
      const { ada, grace } = yield* inBoth((name) => join(chat, name))
      yield* ada.send({ _tag: "Say", text: "hello" })
      yield* grace.send({ _tag: "Say", text: "hello too" })
      for (const page of [ada, grace]) assert.sameMembers(texts(yield* hear(page, 2)), ["hello", "hello too"])
      const { members } = yield* next(yield* join(chat, "Edsger"), "Snapshot")
      assert.deepStrictEqual(new Set(members.map(({ metadata }) => metadata.name)), new Set(["Ada", "Grace", "Edsger"]))
      assert.strictEqual(yield* chat.stop("SIGTERM"), 130)
      for (const { connection } of [ada, grace]) assert.strictEqual((yield* connection.closed).code, 1001)
    })))

  it.live("when a worker is killed, its pages come back to another one, and who does not has left", () =>
    withClient(Effect.gen(function*() {
      const chat = yield* start
      const { ada, grace, processes } = yield* inBoth((name) => stay(chat, name))
      // A third is where the first is, and has no way back.
      yield* openIn(join(chat, "Edsger"), (process) => process === processes[0])
      yield* grace.send({ _tag: "Say", text: "before" })
      for (const page of [ada, grace]) assert.deepStrictEqual(texts(yield* hear(page, 1)), ["before"])

      process.kill(processes[0]!, "SIGKILL")
      yield* grace.send({ _tag: "Say", text: "meanwhile" })
      assert.deepStrictEqual(texts(yield* hear(ada, 1)), ["meanwhile"])
      assert.notStrictEqual(yield* processOf(ada), processes[0])
      let left = yield* next(grace, "Left")
      while (left.member.metadata.name !== "Edsger") left = yield* next(grace, "Left")
      yield* ada.send({ _tag: "Say", text: "after" })
      assert.deepStrictEqual(texts(yield* hear(grace, 1)), ["after"])
    })))

  it.live("all workers are renewed one after the other: pages are told with 1012, and miss nothing", () =>
    withClient(Effect.gen(function*() {
      const chat = yield* start
      const { ada, grace, processes } = yield* inBoth((name) => stay(chat, name))
      yield* ada.send({ _tag: "Say", text: "before" })
      for (const page of [ada, grace]) assert.deepStrictEqual(texts(yield* hear(page, 1)), ["before"])
      const witnesses = yield* Effect.replicateEffect(join(chat, "witness"), 4)

      yield* chat.signal("SIGUSR2")
      for (const { connection } of witnesses) {
        const { code, wasClean } = yield* connection.closed
        assert.deepStrictEqual([code, wasClean], [1012, true])
      }
      yield* Effect.scoped(Effect.gen(function*() {
        const speaker = yield* stay(chat, "Edsger")
        yield* Effect.forkScoped(Effect.ignore(Stream.runDrain(speaker.connection.messages)))
        for (const text of ["one", "two", "three"]) yield* speaker.send({ _tag: "Say", text })
        for (const page of [ada, grace]) assert.deepStrictEqual(texts(yield* hear(page, 3)), ["one", "two", "three"])
      }))
      for (const page of [ada, grace]) assert.notInclude(processes, yield* processOf(page))
    })))

  it.live("while Redis is away, pages stay, and are told what was not sent", () =>
    withClient(Effect.gen(function*() {
      const redis = yield* RedisServer
      const chat = yield* start
      const { ada, grace } = yield* inBoth((name) => join(chat, name))
      yield* redis.kill
      yield* ada.send({ _tag: "Say", text: "lost" })
      assert.strictEqual((yield* next(ada, "NotSent")).text, "lost")
      const late = yield* join(chat, "Edsger")
      assert.strictEqual((yield* late.connection.closed).code, 1013)
      yield* redis.start
      // Redis has forgotten who is in, until the processes tell it.
      for (const page of [ada, grace]) yield* next(page, "Snapshot")
      yield* ada.send({ _tag: "Say", text: "found" })
      for (const page of [ada, grace]) assert.deepStrictEqual(texts(yield* hear(page, 1)), ["found"])
    })))

  it.live("if a new worker does not come up, the old ones stay", () =>
    withClient(Effect.gen(function*() {
      const redis = yield* RedisServer
      const chat = yield* start
      const { ada, grace, processes } = yield* inBoth((name) => join(chat, name))
      yield* redis.kill
      yield* chat.signal("SIGUSR2")
      yield* chat.printed(/The new worker did not come up/)
      assert.deepStrictEqual([yield* processOf(ada), yield* processOf(grace)], processes)
    })))

  it.live("a worker that dies while its successor does not come up gets another one", () =>
    withClient(Effect.gen(function*() {
      const redis = yield* RedisServer
      const chat = yield* start
      const { processes } = yield* inBoth((name) => stay(chat, name))
      yield* redis.kill
      yield* chat.signal("SIGUSR2")
      const renewed = yield* chat.printed(/(?<=Worker )\d+(?= is to be renewed)/)
      process.kill(Number(renewed), "SIGKILL")
      yield* chat.printed(/The new worker did not come up/)
      yield* chat.printed(new RegExp(`Worker ${renewed} died, another one takes its place`))
      yield* redis.start
      yield* openIn(stay(chat, "Edsger"), (process) => !processes.includes(process))
    })))

  it.live("workers end with their primary", () =>
    withClient(Effect.gen(function*() {
      const chat = yield* start
      const { ada, grace } = yield* inBoth((name) => join(chat, name))
      yield* chat.stop("SIGKILL")
      for (const { connection } of [ada, grace]) assert.strictEqual((yield* connection.closed).code, 1006)
    })))
})
