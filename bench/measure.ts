/** One measurement: a peer, under one workload, once. */
import { setTimeout } from "node:timers/promises"
import { certificate } from "./certificate.ts"
import type { Settings, Usage } from "./control.ts"
import { type LoadProgram, loadProgram } from "./load/program.ts"
import type { Cores } from "./machine.ts"
import { commandOf, type Peer } from "./peers.ts"
import { Process } from "./processes.ts"
import type { Load, Measurement, Workload } from "./workloads.ts"

export interface MeasureOptions {
  readonly cores: Cores | undefined
  readonly load: LoadProgram
  readonly warmup: number
  readonly seconds: number
  /** Writes a CPU profile of the process under test to this file. */
  readonly profile?: string | undefined
}

interface LoadEnd {
  readonly seconds: number
  readonly messages: number
  readonly handshakes: number
  readonly cpu: number
  readonly latency: ReadonlyArray<number>
}

// The length of a message on the wire, in one frame or in fragments.
const wireLength = (size: number, masked: boolean, fragment = size): number => {
  const frame = (length: number) => length + (length < 126 ? 2 : length < 0x1_0000 ? 4 : 10) + (masked ? 4 : 0)
  return Math.floor(size / fragment) * frame(fragment) + (size % fragment === 0 ? 0 : frame(size % fragment))
}

const loadWords = (load: Load, role: Readonly<Record<string, number>>, isRaw: boolean): Array<string> => {
  const { binary, size = 64 } = load
  const isServer = "listen" in role
  // Whoever knows frames answers in one, masked if it is a client; who does not gives back what was sent.
  const reply = isRaw ? wireLength(size, !isServer, load.fragment) : wireLength(size, isServer)
  const { binary: _, ...rest } = load
  return Object.entries({ ...rest, ...role, size, opcode: binary ? 2 : 1, reply }).map(([name, value]) =>
    `${name}=${value}`
  )
}

/** Measures once. A rate of `"half"` has been replaced by a number before. */
export const measure = async (workload: Workload, peer: Peer, options: MeasureOptions): Promise<Measurement> => {
  const { cores, warmup, seconds } = options
  const processes: Array<Process> = []
  const start = (command: Process) => {
    processes.push(command)
    return command
  }
  const tls = workload.group === "tls" ? { tls: await certificate() } : {}
  const startTested = (program: string, settings: Settings) =>
    start(new Process(commandOf(peer, program, { ...settings, ...tls }), cores?.tested))
  // Only the one in Node speaks TLS.
  const program = workload.group === "tls" ? loadProgram("node") : options.load
  const startLoad = (load: Load, role: Readonly<Record<string, number>>) =>
    start(
      new Process(
        { name: "load", words: [...program.words, ...loadWords(load, role, peer.isRaw ?? false)] },
        cores?.load
      )
    )
  const usage = async (tested: Process, collect = false) =>
    await tested.ask(collect ? "collect" : "usage", "rss") as unknown as Usage
  const { collect, load: wanted, settings = {} } = workload

  try {
    let tested: Process, load: Process, before: Usage
    if (workload.group === "client") {
      load = startLoad(wanted, { listen: 1, warmup, seconds })
      const { port } = await load.next("port")
      tested = startTested(peer.client!, { ...settings, port: port as number, connections: wanted.connections })
      before = await usage(tested)
    } else {
      tested = startTested(peer.server!, settings)
      const { port } = await tested.next("port")
      const role = { port: port as number, warmup, seconds, ...("tls" in tls && { tls: 1 }) }
      if (collect) {
        // What only the first connections cost is not to be counted.
        const wave = startLoad({ ...wanted, connections: 500 }, { ...role, warmup: 0.1, seconds: 0 })
        for (const name of ["ready", "start", "end"]) await event(wave, name)
        await wave.stop()
      }
      before = await usage(tested, collect)
      load = startLoad(wanted, role)
    }
    await event(load, "ready")
    await event(load, "start", warmup)
    const first = await usage(tested, collect)
    const waited = tested.waited
    if (options.profile !== undefined) tested.tell("profile")
    const end = await event(load, "end", seconds) as unknown as LoadEnd
    const last = await usage(tested)
    const waitedAfter = tested.waited
    if (options.profile !== undefined) await tested.ask(`profiled ${options.profile}`, "profile")
    const elapsed = last.time - first.time
    const after = collect ? first : last
    return {
      messages: end.messages / end.seconds,
      handshakes: end.handshakes / end.seconds,
      latency: end.latency,
      cpu: (last.cpu - first.cpu) / elapsed,
      loadCpu: end.cpu,
      contention: (waitedAfter - waited) / elapsed,
      rss: after.rss - before.rss,
      heap: after.heap - before.heap,
      wakeUps: (last.wakeUps - first.wakeUps) / elapsed
    }
  } catch (error) {
    throw await explained(error, processes)
  } finally {
    await Promise.all(processes.map((process) => process.stop()))
  }
}

// The events of a load come in order.
const event = async (load: Process, name: string, after = 0) => {
  const line = await load.next("event", after)
  if (line["event"] !== name) throw new Error(`expected "${name}" of the load, got "${String(line["event"])}"`)
  return line
}

// One process only sees that the other is gone. That may tell why, if it gets the time.
const explained = async (error: unknown, processes: ReadonlyArray<Process>): Promise<Error> => {
  await setTimeout(100)
  const failures = processes.flatMap(({ failure }) => failure === undefined ? [] : [failure.message])
  return failures.length === 0 && error instanceof Error ? error : new Error(failures.join("; "))
}
