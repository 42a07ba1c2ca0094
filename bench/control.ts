/**
 * What every process under test has beside its own code: its settings, and a way for the runner to look into it. Commands
 * are lines on standard input, answers are lines of JSON on standard output.
 */
import { writeFileSync } from "node:fs"
import { Session } from "node:inspector"
import { performance } from "node:perf_hooks"
import process from "node:process"
import { createInterface } from "node:readline"
import type { Certificate } from "./certificate.ts"

/** What the runner tells a process under test: a server where `port` is absent, else a client of that port. */
export interface Settings {
  readonly level?: "stream" | "batch"
  readonly broadcast?: boolean
  /** How many rooms connections join in turn, to publish what they send. */
  readonly rooms?: number
  readonly heartbeatMillis?: number
  readonly maxMessageBytes?: number
  readonly maxQueuedMessages?: number
  readonly maxQueuedBytes?: number
  readonly tls?: Certificate
  readonly deflate?: "no context takeover" | "context takeover"
  readonly port?: number
  readonly connections?: number
}

/** What a process has used so far: seconds of CPU, bytes of memory, and how often it woke up. */
export interface Usage {
  readonly time: number
  readonly cpu: number
  readonly rss: number
  readonly heap: number
  readonly wakeUps: number
}

export const settings: Settings = JSON.parse(process.argv.at(-1)!)

/** Tells the runner where the server listens. */
export const announce = (port: number): void => answer({ port })

const answer = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`)

const usage = (): Usage => {
  const { system, user } = process.cpuUsage()
  const { external, heapUsed, rss } = process.memoryUsage()
  return {
    time: performance.now() / 1000,
    cpu: (user + system) / 1e6,
    rss,
    heap: heapUsed + external,
    wakeUps: process.resourceUsage().voluntaryContextSwitches
  }
}

const collectGarbage = async (): Promise<void> => {
  const { Bun, gc } = globalThis as { Bun?: { gc: (force: boolean) => void }; gc?: () => void }
  for (let i = 0; i < 4; i++) {
    if (Bun === undefined) gc?.()
    else Bun.gc(true)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

let session: Session | undefined

const startProfile = (): void => {
  session = new Session()
  session.connect()
  session.post("Profiler.enable")
  session.post("Profiler.setSamplingInterval", { interval: 200 })
  session.post("Profiler.start")
}

const stopProfile = (file: string): void =>
  session?.post("Profiler.stop", (error, { profile }) => {
    if (error === null) writeFileSync(file, JSON.stringify(profile))
    answer({ profile: file })
  })

createInterface({ input: process.stdin }).on("line", (line) => {
  const [command, argument] = line.split(" ")
  if (command === "usage") answer(usage())
  else if (command === "collect") void collectGarbage().then(() => answer(usage()))
  else if (command === "profile") startProfile()
  else if (command === "profiled") stopProfile(argument!)
}).on("close", () => process.exit(0))
