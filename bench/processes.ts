/** The processes that a measurement is made of, each pinned to a core of its own, talking in lines of JSON. */
import { type ChildProcess, spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"

/** A command line, with what it needs in its environment. */
export interface Command {
  readonly name: string
  readonly words: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
}

type Line = Readonly<Record<string, unknown>>

interface Waiter {
  readonly key: string
  readonly resolve: (line: Line) => void
  readonly reject: (error: Error) => void
}

// How long an answer may take, in seconds.
const patience = 60

export class Process {
  private readonly child: ChildProcess
  private readonly lines: Array<Line> = []
  private readonly waiters = new Set<Waiter>()
  private readonly exited: Promise<void>
  private errors = ""
  /** Why it ended, if it has. */
  failure: Error | undefined

  /** Starts a command on a core, if there is one to pin it to. */
  constructor(command: Command, core: number | undefined) {
    const [file, ...words] = core === undefined
      ? command.words
      : ["taskset", "-c", String(core), ...command.words]
    this.child = spawn(file!, words, {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...command.env }
    })
    createInterface({ input: this.child.stdout! }).on("line", (line) => this.read(line))
    this.child.stderr!.on("data", (chunk: Buffer) => {
      this.errors = (this.errors + chunk.toString()).slice(-2000)
    })
    // A command for a process that is gone: its exit tells more.
    this.child.stdin!.on("error", () => {})
    this.exited = new Promise((resolve) => {
      this.child.on("error", (error) => this.end(error, resolve))
      this.child.on(
        "close",
        (code, signal) =>
          this.end(new Error(`${command.name} ended (${signal ?? code}) ${this.errors.trim()}`), resolve)
      )
    })
  }

  /** Waits for the next line that has a key; longer if it cannot come within some seconds. */
  next(key: string, after = 0): Promise<Line> {
    const index = this.lines.findIndex((line) => key in line)
    if (index >= 0) return Promise.resolve(this.lines.splice(index, 1)[0]!)
    if (this.failure !== undefined) return Promise.reject(this.failure)
    return new Promise((resolve, reject) => {
      const limit = patience + after
      const timer = setTimeout(() => waiter.reject(new Error(`no "${key}" within ${limit} s`)), limit * 1000)
      const done = () => {
        clearTimeout(timer)
        this.waiters.delete(waiter)
      }
      const waiter: Waiter = {
        key,
        resolve: (line) => {
          done()
          resolve(line)
        },
        reject: (error) => {
          done()
          reject(error)
        }
      }
      this.waiters.add(waiter)
    })
  }

  /** Sends a command, and waits for the line with a key that answers it. */
  ask(command: string, key: string): Promise<Line> {
    this.tell(command)
    return this.next(key)
  }

  /** Sends a command that is not answered. */
  tell(command: string): void {
    this.child.stdin!.write(`${command}\n`)
  }

  /** How long its main thread has waited for the core that something else had, in seconds; NaN where nothing tells. */
  get waited(): number {
    try {
      return Number(readFileSync(`/proc/${this.child.pid}/schedstat`, "utf8").split(" ")[1]) / 1e9
    } catch {
      return NaN
    }
  }

  /** Ends the process. */
  stop(): Promise<void> {
    this.child.kill("SIGKILL")
    return this.exited
  }

  private read(text: string): void {
    // A runtime may have something to say too.
    if (!text.startsWith("{")) return
    const line = JSON.parse(text) as Line
    for (const waiter of this.waiters) {
      if (waiter.key in line) return waiter.resolve(line)
    }
    this.lines.push(line)
  }

  private end(error: Error, exited: () => void): void {
    this.failure ??= error
    for (const waiter of this.waiters) waiter.reject(this.failure)
    exited()
  }
}
