import { ReceiveQueue } from "@effect-ws/core/ReceiveQueue"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { start } from "./fixture.ts"

const make = () => new ReceiveQueue({ onEmpty: () => {} })

describe("ReceiveQueue", () => {
  it.effect.each([0, 1, 2])(
    "of three that wait, number %s leaves, and the others are served in order",
    (gone) =>
      Effect.gen(function*() {
        const queue = make()
        const fibers = [yield* start(queue.receive), yield* start(queue.receive), yield* start(queue.receive)]
        yield* Fiber.interrupt(fibers[gone]!)
        queue.offer(["a", "b"])
        const served = yield* Effect.forEach(fibers.filter((_, i) => i !== gone), (fiber) => Fiber.join(fiber))
        assert.deepStrictEqual(served, ["a", "b"])
      })
  )

  it.effect("who comes back does not overtake who waits", () =>
    Effect.gen(function*() {
      const queue = make()
      const first = yield* start(Effect.all([queue.receive, queue.receive]))
      const second = yield* start(queue.receive)
      queue.offer(["a", "b", "c"])
      assert.deepStrictEqual([yield* Fiber.join(first), yield* Fiber.join(second)], [["a", "c"], "b"])
    }))
})
