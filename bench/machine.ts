/** The machine, as far as it matters to the numbers. */
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { arch, availableParallelism, cpus, release, totalmem, type } from "node:os"

/** Tells whether a command can be run. */
export const isInstalled = (command: string): boolean => spawnSync(command, ["--version"]).status === 0

/** What a command says its version is. */
export const versionOf = (command: string): string =>
  /\d[\w.-]*/.exec(spawnSync(command, ["--version"]).stdout?.toString() ?? "")?.[0] ?? "?"

/** The cores for the process under test and for the load. */
export interface Cores {
  readonly tested: number
  readonly load: number
}

// "0-3,8" as a list.
const parseCores = (text: string): Array<number> =>
  text.trim().split(",").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number)
    return Array.from({ length: last! - first! + 1 }, (_, i) => first! + i)
  })

const siblings = (core: number): Array<number> => {
  try {
    return parseCores(readFileSync(`/sys/devices/system/cpu/cpu${core}/topology/thread_siblings_list`, "utf8"))
  } catch {
    return [core]
  }
}

/** Two cores to pin processes to, not two threads of the same if there is a choice; undefined where there is no way to. */
export const cores = (): Cores | undefined => {
  const allowed = spawnSync("taskset", ["-cp", String(process.pid)]).stdout?.toString().split(":").at(-1)
  if (allowed === undefined || allowed.trim() === "") return undefined
  const [tested, ...others] = parseCores(allowed)
  const load = others.find((core) => !siblings(tested!).includes(core)) ?? others[0]
  return load === undefined ? undefined : { tested: tested!, load }
}

/** What kind of machine this is: nothing that tells which. */
export const describe = (): string => {
  const model = cpus()[0]?.model.trim() ?? "unknown CPU"
  const memory = Math.round(totalmem() / 2 ** 30)
  return `${availableParallelism()} cores (${model}), ${memory} GiB, ${type()} ${release().split("-")[0]} ${arch()}`
}
