import type { Connection } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
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
    signal: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal))
  }
})

/** Takes what comes until all of some have come. */
const upTo = Effect.fnUntraced(function*(connection: Connection.Connection, ...awaited: ReadonlyArray<string>) {
  const missing = new Set(awaited)
  while (missing.size > 0) missing.delete(String(yield* connection.receive))
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

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => String(from + i))

const texts = (received: ReadonlyArray<{ readonly text: string }>) => received.map(({ text }) => text)

describe.skipIf(!hasRedis)("server processes with rooms in common", () => {
  it.live(
    "of three, one is killed and one stands still: their members have left, and what they missed comes when they are back",
    () =>
      withRedis(Effect.gen(function*() {
        const processes = yield* Effect.all([start, start, start], { concurrency: "unbounded" })
        const [ada, grace, edsger] = [
          yield* processes[0].join({ name: "Ada" }),
          yield* processes[1].join({ name: "Grace" }),
          yield* processes[2].join({ name: "Edsger" })
        ]
        yield* upTo(ada, "Joined Edsger")
        for (let i = 0; i < 10; i++) yield* grace.send(String(i))
        const before = yield* messages(ada, 10)
        assert.deepStrictEqual(texts(yield* messages(edsger, 10)), numbers(0, 9))
        assert.deepStrictEqual(texts(yield* messages(grace, 10)), numbers(0, 9))

        // One dies and one stands still: for the others, both are gone.
        yield* processes[0].signal("SIGKILL")
        yield* processes[2].signal("SIGSTOP")
        yield* upTo(grace, "Left Ada", "Left Edsger")
        for (let i = 10; i < 20; i++) yield* grace.send(String(i))
        assert.deepStrictEqual(texts(yield* messages(grace, 10)), numbers(10, 19))

        yield* processes[2].signal("SIGCONT")
        yield* upTo(grace, "Joined Edsger")
        assert.deepStrictEqual(texts(yield* messages(edsger, 10)), numbers(10, 19))

        const restarted = yield* start
        const { epoch, offset } = before.at(-1)!
        const again = yield* restarted.join({ name: "Ada", epoch, offset })
        for (let i = 20; i < 30; i++) yield* grace.send(String(i))
        assert.deepStrictEqual(texts([...before, ...yield* messages(again, 20)]), numbers(0, 29))
      })),
    120_000
  )
})
