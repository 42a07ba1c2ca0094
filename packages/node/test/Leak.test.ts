import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Logger, Metric, type Scope } from "effect"
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { type Ending, make } from "./endings.ts"
import { make as makeMounted } from "./mountedEndings.ts"
import { make as makeProxied } from "./proxiedEndings.ts"

const cycles = 2000
const concurrency = 32

setFlagsFromString("--expose-gc")
// Functions that are not called for a while would lose their bytecode, and the heap would shrink for no reason of ours.
setFlagsFromString("--no-flush-bytecode")
const collectGarbage: () => void = runInNewContext("gc")

// What is alive after garbage collection, without code: the compiler makes and drops more of that than all that is looked
// for here.
const liveBytes = Effect.gen(function*() {
  for (let i = 0; i < 4; i++) {
    collectGarbage()
    yield* Effect.sleep(1)
  }
  return getHeapSpaceStatistics()
    .filter(({ space_name }) => !/code|trusted/.test(space_name))
    .reduce((sum, { space_used_size }) => sum + space_used_size, process.memoryUsage().external)
})

const countFibers = () => {
  let live = 0
  const service: Metric.FiberRuntimeMetricsService = {
    recordFiberStart: () => void live++,
    recordFiberEnd: () => void live--
  }
  return { service, live: () => live }
}

// What Node reports instead of failing, from now to the end of the scope.
const troubles: Effect.Effect<Array<unknown>, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const found: Array<unknown> = []
      const listener = (trouble: unknown) => void found.push(trouble)
      for (const name of troubleNames) process.on(name, listener)
      return { found, listener }
    }),
    ({ listener }) =>
      Effect.sync(() => {
        for (const name of troubleNames) process.off(name, listener)
      })
  ),
  ({ found }) => found
)
const troubleNames = ["warning", "unhandledRejection", "uncaughtExceptionMonitor"] as const

const processListeners = () => process.eventNames().map((name) => `${String(name)}: ${process.listenerCount(name)}`)

// What keeps the process alive, beyond this turn of the event loop.
const resources = () => process.getActiveResourcesInfo().filter((name) => name !== "Immediate").toSorted()

// Timers aside. Those of a connection have a fiber each, and are found by that; a heartbeat, which all connections of a
// server share, still has its timer when the last of them is gone.
const resourcesButTimers = () => resources().filter((name) => name !== "Timeout")

// Waits until `look` finds what is expected, and fails with what it found if it does not happen.
const eventually = <A>(look: Effect.Effect<A>, expected: A, message: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    let found = yield* look
    for (let i = 0; i < 2000 && JSON.stringify(found) !== JSON.stringify(expected); i++) {
      yield* Effect.sleep(5)
      found = yield* look
    }
    assert.deepStrictEqual(found, expected, message)
  })

describe("leaks", () => {
  it.live("whatever way connections end, nothing is left of them", () => {
    const fibers = countFibers()
    return Effect.gen(function*() {
      // Opened when first looked at, as Effect's Node services do.
      void [process.stdin, process.stdout, process.stderr]
      const found = yield* troubles
      const listenersBefore = processListeners()
      const resourcesBefore = resources()

      const run = ([name, ending]: Ending) =>
        Effect.scoped(ending).pipe(
          Effect.timeout("20 seconds"),
          Effect.catchCause((cause) => Effect.sync(() => found.push(`${name}: ${Cause.pretty(cause)}`)))
        )

      yield* Effect.scoped(
        Effect.gen(function*() {
          const own = yield* make
          const mounted = yield* makeMounted
          const proxied = yield* makeProxied
          const endings = [...own.endings, ...mounted.endings, ...proxied.endings]
          const all = Effect.all([own.connections, mounted.connections, proxied.connections])
          const look = Effect.map(all, (connections) => ({
            connections,
            fibers: fibers.live(),
            resources: resourcesButTimers()
          }))
          const nothing = yield* look

          const runAll = Effect.fnUntraced(function*(count: number) {
            const turns = Array.from({ length: count }, (_, i) => endings[i % endings.length]!)
            yield* Effect.forEach(turns, run, { concurrency, discard: true })
            yield* eventually(look, nothing, "after all")
          })

          // By itself, so that a leak has a name.
          for (const ending of endings) {
            yield* Effect.forEach(Array.from({ length: 8 }, () => ending), run, { concurrency: 8, discard: true })
            yield* eventually(look, nothing, ending[0])
          }
          yield* runAll(cycles)
          const before = yield* liveBytes
          yield* runAll(cycles)
          const perCycle = ((yield* liveBytes) - before) / cycles
          // Caches, and what the compiler notes beside code, make up to 15 bytes. A closed connection that something holds on
          // to has some 8 KiB: 150 bytes per cycle, if it is only in one of the ways to end.
          assert.isBelow(perCycle, 64)
        }).pipe(Effect.provide(NodeWebSocketClient.layer))
      )

      yield* eventually(Effect.sync(resources), resourcesBefore, "after the servers")
      assert.strictEqual(fibers.live(), 0)
      assert.deepStrictEqual(processListeners(), listenersBefore)
      assert.deepStrictEqual(found, [])
    }).pipe(
      Effect.provide(Logger.layer([])),
      Effect.provideService(Metric.FiberRuntimeMetrics, fibers.service),
      Effect.scoped
    )
  }, 120_000)
})
