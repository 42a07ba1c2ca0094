import type { Connection } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { connect } from "./fixture.ts"
import { hasRedis, RedisServer, withRedis } from "./redisServer.ts"

const program = fileURLToPath(new URL("./roomsServer.ts", import.meta.url))

/** A server process of its own. */
const start = Effect.gen(function*() {
  const redis = yield* RedisServer
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [program, redis.url], { stdio: ["ignore", "pipe", "inherit"] })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const url = yield* Effect.callback<string>((resume) => {
    child.stdout.on("data", (chunk) => {
      const printed = /ws:\S+/.exec(String(chunk))
      if (printed !== null) resume(Effect.succeed(printed[0]))
    })
  })
  return {
    join: (query: Record<string, string>) => connect(`${url}/?${new URLSearchParams(query)}`),
    end: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal))
  }
})

/** What comes up to a message, or to the end of the connection. */
const upTo = Effect.fnUntraced(function*(connection: Connection.Connection, last: string) {
  const received: Array<string> = []
  while (received.at(-1) !== last) received.push(String(yield* connection.receive))
  return received
})

/** The next messages of others, without those that tell who comes and goes. */
const messages = Effect.fnUntraced(function*(connection: Connection.Connection, count: number) {
  const received: Array<{ readonly epoch: string; readonly offset: string; readonly text: string }> = []
  while (received.length < count) {
    const [epoch = "", offset = "", text] = String(yield* connection.receive).split(" ")
    if (text !== undefined) received.push({ epoch, offset, text })
  }
  return received
})

const texts = (received: ReadonlyArray<{ readonly text: string }>) => received.map(({ text }) => text)

describe.skipIf(!hasRedis)("server processes with rooms in common", { timeout: 60_000 }, () => {
  it.live("when one of three is killed, its members have left, and the others go on", () =>
    withRedis(Effect.gen(function*() {
      const processes = yield* Effect.all([start, start, start], { concurrency: "unbounded" })
      const [ada, grace, edsger] = [
        yield* processes[0].join({ name: "Ada" }),
        yield* processes[1].join({ name: "Grace" }),
        yield* processes[2].join({ name: "Edsger" })
      ]
      yield* upTo(ada, "Joined Edsger")
      yield* ada.send("hello")
      for (const client of [grace, edsger]) assert.deepStrictEqual(texts(yield* messages(client, 1)), ["hello"])
      yield* processes[0].end("SIGKILL")
      for (const client of [grace, edsger]) assert.deepStrictEqual(yield* upTo(client, "Left Ada"), ["Left Ada"])
      yield* grace.send("still")
      assert.deepStrictEqual(texts(yield* messages(edsger, 1)), ["still"])
    })))

  it.live.each(["SIGTERM", "SIGKILL"] as const)(
    "a client resumes after its process was restarted, by %s",
    (signal) =>
      withRedis(Effect.gen(function*() {
        const [first, other] = yield* Effect.all([start, start], { concurrency: "unbounded" })
        const ada = yield* first.join({ name: "Ada" })
        const grace = yield* other.join({ name: "Grace" })
        yield* upTo(ada, "Joined Grace")
        for (let i = 0; i < 10; i++) yield* grace.send(String(i))
        const before = yield* messages(ada, 10)
        yield* first.end(signal)
        yield* ada.closed
        const restarting = yield* Effect.forkScoped(start)
        for (let i = 10; i < 20; i++) yield* grace.send(String(i))
        const restarted = yield* restarting.pipe(Fiber.join)
        const { epoch, offset } = before.at(-1)!
        const again = yield* restarted.join({ name: "Ada", epoch, offset })
        for (let i = 20; i < 30; i++) yield* grace.send(String(i))
        const after = yield* messages(again, 20)
        assert.deepStrictEqual(texts([...before, ...after]), Array.from({ length: 30 }, (_, i) => String(i)))
      }))
  )
})
