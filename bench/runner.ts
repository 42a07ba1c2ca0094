/** Carries a plan out: every workload, in interleaved rounds, telling how far it is. */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { measure, type MeasureOptions } from "./measure.ts"
import { type Peer, peers as allPeers, reference } from "./peers.ts"
import { topFunctions } from "./profile.ts"
import { short } from "./report.ts"
import { isDisturbed, type Result, takesPart } from "./results.ts"
import type { Workload } from "./workloads.ts"

export interface Plan {
  readonly workloads: ReadonlyArray<Workload>
  readonly peers: ReadonlyArray<Peer>
  readonly rounds: number
  readonly settings: MeasureOptions
  /** Where to write a CPU profile of each measurement, if wanted. */
  readonly profiles: string | undefined
  readonly print: (text: string) => void
}

export interface Outcome {
  /** The workloads as they were measured. */
  readonly workloads: ReadonlyArray<Workload>
  readonly results: ReadonlyArray<Result>
}

// Begins each round with another peer, so that none always follows the same one.
const rotated = <A>(list: ReadonlyArray<A>, by: number): ReadonlyArray<A> => {
  const at = by % list.length
  return [...list.slice(at), ...list.slice(0, at)]
}

const duration = (milliseconds: number): string =>
  milliseconds < 90_000 ? `${Math.round(milliseconds / 1000)} s` : `${Math.round(milliseconds / 60_000)} min`

const percent = (share: number): string => `${Math.round(share * 100)} %`

/** Replaces the rate "half" by half of what `ws` answers now. */
const withRate = async (workload: Workload, settings: MeasureOptions): Promise<Workload> => {
  if (workload.load.rate !== "half") return workload
  const ws = allPeers.find(({ id }) => id === reference)!
  const { connections } = workload.load
  const { messages } = await measure({ ...workload, load: { mode: "echo", connections } }, ws, settings)
  const rate = Math.max(1000, Math.round(messages / 2000) * 1000)
  return { ...workload, title: `${workload.title} (${short(rate)} msg/s)`, load: { ...workload.load, rate } }
}

const describe = (workload: Workload, result: Result): string => {
  const { measurement } = result
  if (typeof measurement === "string") return `failed: ${measurement}`
  const numbers = workload.metrics.map(({ name, of, unit }) =>
    `${name === undefined ? "" : `${name} `}${short(of(measurement))} ${unit}`
  )
  const { contention, cpu, loadCpu } = measurement
  const disturbed = isDisturbed(result) ? `, DISTURBED: had to wait ${percent(contention)}` : ""
  return `${numbers.join(", ")} (busy: ${percent(cpu)}, load ${percent(loadCpu)}${disturbed})`
}

/** Measures all that is planned; an interrupt ends it with what there is so far. */
export const carryOut = async ({ peers, print, profiles, rounds, settings, workloads }: Plan): Promise<Outcome> => {
  const outcome = { workloads: [] as Array<Workload>, results: [] as Array<Result> }
  const taking = (workload: Workload) => peers.filter((peer) => takesPart(workload, peer))
  const total = workloads.reduce((sum, workload) => sum + rounds * taking(workload).length, 0)
  const began = performance.now()
  let isStopping = false
  process.once("SIGINT", () => {
    isStopping = true
  })

  const once = async (workload: Workload, peer: Peer, round: number): Promise<void> => {
    const profile = profiles && join(profiles, `${workload.id}-${peer.id}.cpuprofile`)
    const measurement = await measure(workload, peer, { ...settings, profile }).catch((error: Error) => error.message)
    if (isStopping) return
    const result = { workload: workload.id, peer: peer.id, round, measurement }
    outcome.results.push(result)
    const done = outcome.results.length
    const left = duration((performance.now() - began) / done * (total - done))
    const what = `${workload.id}${rounds === 1 ? "" : ` round ${round + 1}`} ${peer.id}`
    print(
      `[${String(done).padStart(String(total).length)}/${total}, ${left} left] ${what}: ${describe(workload, result)}`
    )
    if (profile === undefined || !existsSync(profile)) return
    for (const [name, share] of topFunctions(profile, 15)) print(`  ${(share * 100).toFixed(1).padStart(5)} %  ${name}`)
  }

  for (const workload of workloads) {
    if (isStopping) break
    const ready = await withRate(workload, settings)
    outcome.workloads.push(ready)
    for (let round = 0; round < rounds; round++) {
      for (const peer of rotated(taking(ready), round)) {
        if (!isStopping) await once(ready, peer, round)
      }
    }
  }
  return outcome
}
