import { Scenario, Simulation } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mutants } from "./mutants.ts"

describe("a simulation", () => {
  it.live("what must hold, holds in 500 scenarios", () =>
    Effect.gen(function*() {
      const report = yield* Simulation.explore({ scenarios: 500 })
      assert.strictEqual(report.scenarios, 500)
      assert.isAtLeast(report.connections, 500)
      assert.isAtLeast(report.messages, 1000)
    }), 60_000)

  it.live("the same seed does the same again", () =>
    Effect.gen(function*() {
      for (const seed of [3, 14, 159]) {
        const scenario = yield* Scenario.make(seed)
        assert.deepStrictEqual(yield* Scenario.make(seed), scenario)
        assert.deepStrictEqual(yield* Simulation.run(scenario), yield* Simulation.run(scenario))
      }
    }))

  it.live("a failure is told with its seed and a scenario that is as small as can be", () =>
    Effect.gen(function*() {
      const options = mutants["a message is lost"]!
      const error = yield* Effect.flip(Simulation.explore({ ...options, scenarios: 500 }))
      assert.match(error.message, new RegExp(`^seed ${error.seed}: it does not hold that ${error.invariant}\n`))
      const { clients, faults } = JSON.parse(error.scenario) as Scenario.Scenario
      const steps = clients.flatMap(({ client, server }) => [...client.senders.flat(), ...server.senders.flat()])
      // The mutant loses the second binary message of a server.
      assert.deepStrictEqual(steps.map(({ _tag }) => _tag), ["Send", "Send"])
      assert.lengthOf(clients, 1)
      assert.lengthOf(faults, 0)
    }))

  for (const [what, options] of Object.entries(mutants)) {
    it.live.each([0, 10_000, 20_000])(
      `finds a broken engine: ${what} (from seed %d)`,
      (from) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(Simulation.explore({ ...options, scenarios: 500, from }))
          // The seed that is printed shows the same failure, each time, and the engine as it is has none.
          const [, printed] = /^seed (\d+): /.exec(error.message)!
          const scenario = yield* Scenario.make(Number(printed))
          const again = yield* Effect.flip(Simulation.run(scenario, options))
          assert.strictEqual(again.invariant, error.invariant)
          assert.deepStrictEqual(yield* Effect.flip(Simulation.run(scenario, options)), again)
          yield* Simulation.run(scenario)
        }),
      60_000
    )
  }
})
