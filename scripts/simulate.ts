/**
 * Runs many simulated scenarios, and tells how far it is. A failure tells its seed: `npm run simulate -- --from SEED
 * --scenarios 1` shows it again.
 */
import { Simulation } from "@effect-ws/test-kit"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Console, Effect } from "effect"
import { Command, Flag } from "effect/cli"

const scenarios = Flag.Int("scenarios").pipe(
  Flag.withDescription("How many scenarios to run"),
  Flag.withDefault(20_000)
)
const from = Flag.Int("from").pipe(Flag.withDescription("The first seed"), Flag.withDefault(0))

const progressMillis = 5000

Command.make("simulate", { scenarios, from }, ({ from, scenarios }) =>
  Effect.gen(function*() {
    const began = yield* Clock.currentTimeMillis
    let told = began
    const tell = Effect.fnUntraced(function*(report: Simulation.Report) {
      const now = yield* Clock.currentTimeMillis
      told = now
      const hours = (report.virtualMillis / 3_600_000).toFixed(1)
      yield* Console.log(
        `${report.scenarios} of ${scenarios} scenarios: ${report.connections} connections, ${report.messages} messages, ` +
          `${hours} virtual hours in ${((now - began) / 1000).toFixed(0)} s`
      )
    })
    const report = yield* Simulation.explore({
      scenarios,
      from,
      onProgress: (report) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => now - told < progressMillis ? Effect.void : tell(report))
    })
    yield* tell(report)
  })).pipe(
    Command.run({ version: "0.0.0" }),
    Effect.provide(NodeServices.layer),
    NodeRuntime.runMain
  )
