/** All measurements of a run, and what they amount to. */
import { type Peer, reference } from "./peers.ts"
import type { Measurement, Metric, Workload } from "./workloads.ts"

export interface Result {
  readonly workload: string
  readonly peer: string
  readonly round: number
  /** The message of an error instead, where it failed. */
  readonly measurement: Measurement | string
}

/** A metric of a peer: the median of the rounds, and that of its ratio to `ws` in the same round (more is better). */
export interface Summary {
  readonly value: number
  readonly ratio: number | undefined
  readonly spread: readonly [least: number, most: number] | undefined
}

/** Where something else had the core for a larger share of the time, a measurement is doubtful. */
export const disturbance = 0.05

export interface Run {
  readonly results: ReadonlyArray<Result>
  readonly workloads: ReadonlyArray<Workload>
  readonly peers: ReadonlyArray<Peer>
  readonly rounds: number
  readonly seconds: number
  readonly warmup: number
  readonly date: string
  readonly machine: string
  readonly versions: string
  readonly pinning: string
  readonly load: string
  /** Whether rates are per second of CPU of the process under test, instead of per second. */
  readonly perCpu: boolean
}

const median = (numbers: ReadonlyArray<number>): number => {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Tells whether a peer can do, and is wanted for, a workload. */
export const takesPart = (workload: Workload, { client, id, only = "", server }: Peer): boolean =>
  (workload.group === "client" ? client : server) !== undefined &&
  (workload.peers?.includes(id) ?? true) && workload.id.startsWith(only)

/** Tells whether more than half of the rounds of one peer were disturbed. */
export const isDoubtful = ({ results }: Run, workload: Workload, peer: string): boolean => {
  const rounds = results.filter((result) => result.workload === workload.id && result.peer === peer)
  return rounds.filter(isDisturbed).length > rounds.length / 2
}

/** Tells whether something else had the core for too long. */
export const isDisturbed = ({ measurement }: Result): boolean =>
  typeof measurement !== "string" && measurement.contention > disturbance

/** What a second of CPU achieved, which depends little on what else the machine does. */
export const perCpu = (metric: Metric): Metric =>
  metric.better === "less"
    ? metric
    : { ...metric, unit: `${metric.unit} of CPU`, of: (m) => metric.of(m) / m.cpu }

/** What the rounds of one peer amount to; undefined where none succeeded. */
export const summarise = (run: Run, workload: Workload, metric: Metric, peer: string): Summary | undefined => {
  const values = (id: string): Map<number, number> => {
    const byRound = new Map<number, number>()
    for (const { measurement, peer, round, ...result } of run.results) {
      if (result.workload !== workload.id || peer !== id || typeof measurement === "string") continue
      const value = metric.of(measurement)
      if (Number.isFinite(value)) byRound.set(round, value)
    }
    return byRound
  }
  const own = values(peer)
  if (own.size === 0) return undefined
  const others = values(reference)
  const ratios = [...own].flatMap(([round, value]) => {
    const other = others.get(round)
    if (other === undefined || other === 0 || value === 0) return []
    return [metric.better === "more" ? value / other : other / value]
  })
  return {
    value: median([...own.values()]),
    ratio: ratios.length === 0 ? undefined : median(ratios),
    spread: ratios.length === 0 ? undefined : [Math.min(...ratios), Math.max(...ratios)]
  }
}
