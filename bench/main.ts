/** Runs the benchmark; see `--help`. */
import { spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { parseArgs } from "node:util"
import { chart } from "./chart.ts"
import { loadProgram } from "./load/program.ts"
import { cores as findCores, describe } from "./machine.ts"
import { available, ours, type Peer, versions } from "./peers.ts"
import { report, writeSection } from "./report.ts"
import { perCpu } from "./results.ts"
import { carryOut } from "./runner.ts"
import { type Workload, workloads as allWorkloads } from "./workloads.ts"

const help = `npm run bench -- [options]

  --only ID,...     only the workloads whose names begin like this
  --peers ID,...    only these peers
  --rounds N        rounds (5)
  --seconds N       seconds of each measurement (2)
  --warmup N        seconds before it (3): V8 compiles what it meets
  --load c|node     the load generator (C where there is a compiler)
  --per-cpu         rates per second of CPU of the process under test: for a machine that does other things too
  --profile         instead of comparing, profile ours, or the peers named: where the time goes
  --json FILE       write every measurement to a file
  --write           write docs/performance.md and docs/performance.svg
  --list            list workloads and peers
`

const { values: options } = parseArgs({
  options: {
    only: { type: "string" },
    peers: { type: "string" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "2" },
    warmup: { type: "string", default: "3" },
    load: { type: "string" },
    "per-cpu": { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
    json: { type: "string" },
    write: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false }
  }
})

const print = (text: string): void => void process.stdout.write(`${text}\n`)

const exit = (message: string): never => {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

const byCpu = (workload: Workload): Workload => ({ ...workload, metrics: workload.metrics.map(perCpu) })

const selectedWorkloads = (): ReadonlyArray<Workload> => {
  const prefixes = options.only?.split(",")
  const selected = allWorkloads.filter(({ id }) => prefixes?.some((prefix) => id.startsWith(prefix)) ?? true)
  return options["per-cpu"] ? selected.map(byCpu) : selected
}

const selectedPeers = (): ReadonlyArray<Peer> => {
  const ids: ReadonlyArray<string> | undefined = options.peers?.split(",") ?? (options.profile ? ours : undefined)
  return available().filter(({ id }) => ids?.includes(id) ?? true)
}

const write = (text: string, picture: string): void => {
  const root = join(import.meta.dirname, "..")
  const file = join(root, "docs/performance.md")
  const image = picture === "" ? "" : "![Ratios to ws](performance.svg)\n\n"
  if (picture !== "") writeFileSync(join(root, "docs/performance.svg"), picture)
  writeSection(file, image + text)
  // The formatter has its own idea of tables.
  spawnSync("dprint", ["fmt", file], { cwd: root, stdio: "inherit" })
  print(`\nwritten to ${file}`)
}

const run = async (): Promise<void> => {
  const peers = selectedPeers()
  const workloads = selectedWorkloads()
  if (peers.length === 0 || workloads.length === 0) return exit("nothing to measure; see --list")
  const rounds = options.profile ? 1 : Number(options.rounds)
  const load = loadProgram(options.load)
  const cores = findCores()
  const settings = { cores, load, warmup: Number(options.warmup), seconds: Number(options.seconds) }
  const machine = describe()
  const pinning = cores === undefined
    ? "Nothing is pinned to a core"
    : `The process under test has core ${cores.tested}, the load core ${cores.load}`
  print(`${machine}. ${pinning}. The load is ${load.label}.\n`)

  const profiles = options.profile ? mkdtempSync(join(tmpdir(), "bench-")) : undefined
  const outcome = await carryOut({ workloads, peers, rounds, settings, profiles, print })
  if (profiles !== undefined) return print(`\nThe profiles are in ${profiles}`)

  const all = {
    ...outcome,
    peers,
    rounds,
    seconds: settings.seconds,
    warmup: settings.warmup,
    date: new Date().toISOString().slice(0, 10),
    machine,
    versions: versions(peers),
    pinning,
    load: load.label,
    perCpu: options["per-cpu"]
  }
  const text = report(all)
  print(`\n${text}`)
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(all, undefined, 2)}\n`)
  if (options.write) write(text, chart(all))
}

if (options.help) print(help)
else if (options.list) {
  print(`${allWorkloads.map(({ id, title }) => `${id.padEnd(26)} ${title}`).join("\n")}\n`)
  print(available().map(({ id, label }) => `${id.padEnd(26)} ${label}`).join("\n"))
} else if (!existsSync(join(import.meta.dirname, "node_modules/ws"))) {
  exit("not installed; start it with: npm run bench")
} else await run()
