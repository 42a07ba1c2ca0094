import { VirtualTime } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit } from "effect"

describe("time that passes by itself", () => {
  it.effect("what sleeps wakes up when it is due, in its order", () =>
    Effect.gen(function*() {
      const woken: Array<readonly [string, number]> = []
      const sleeper = (name: string, millis: number) =>
        Effect.gen(function*() {
          yield* Effect.sleep(millis)
          woken.push([name, yield* Clock.currentTimeMillis])
        })
      yield* Effect.all([sleeper("b", 25), sleeper("c", 5000), sleeper("a", 3)], { concurrency: "unbounded" })
      assert.deepStrictEqual(woken, [["a", 3], ["b", 25], ["c", 5000]])
    }).pipe(VirtualTime.passing))

  it.effect("stands still when the effect has ended, however it ends", () =>
    Effect.gen(function*() {
      for (const effect of [Effect.sleep("1 second"), Effect.fail("no"), Effect.die("no")]) {
        yield* Effect.exit(VirtualTime.passing(effect))
        const now = yield* Clock.currentTimeMillis
        yield* Effect.repeat(Effect.yieldNow, { times: 20 })
        assert.strictEqual(yield* Clock.currentTimeMillis, now)
      }
    }))

  it.effect("fails as the effect fails", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(VirtualTime.passing(Effect.delay(Effect.fail("no"), "1 minute")))
      assert.deepStrictEqual(exit, Exit.fail("no"))
    }))
})
