/** What a CPU profile says: the functions that the time was spent in. */
import { readFileSync } from "node:fs"

interface CallFrame {
  readonly functionName: string
  readonly url: string
  readonly lineNumber: number
}

interface CpuProfile {
  readonly nodes: ReadonlyArray<{ readonly id: number; readonly callFrame: CallFrame }>
  readonly samples: ReadonlyArray<number>
  readonly timeDeltas: ReadonlyArray<number>
}

const nameOf = ({ functionName, lineNumber, url }: CallFrame): string => {
  const name = functionName === "" ? "(anonymous)" : functionName
  // The package and the path in it are enough.
  const place = url.replace(/^.*\/(?=packages\/|bench\/)|^.*\/node_modules\//, "")
  return url === "" ? name : `${name} (${place}:${lineNumber + 1})`
}

/** The functions with the most time of their own, and their shares of the time that the process was busy. */
export const topFunctions = (file: string, count: number): ReadonlyArray<readonly [name: string, share: number]> => {
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(file, "utf8")) as CpuProfile
  const names = new Map(nodes.map(({ callFrame, id }) => [id, nameOf(callFrame)]))
  const times = new Map<string, number>()
  let busy = 0
  samples.forEach((id, i) => {
    const name = names.get(id)!
    if (name === "(idle)") return
    times.set(name, (times.get(name) ?? 0) + timeDeltas[i]!)
    busy += timeDeltas[i]!
  })
  return [...times]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, count)
    .map(([name, time]) => [name, time / busy] as const)
}
