/** The load generator: compiled where there is a C compiler, else the same on `node:net`. */
import { spawnSync } from "node:child_process"
import { mkdirSync } from "node:fs"
import { join } from "node:path"

export interface LoadProgram {
  readonly label: string
  readonly words: ReadonlyArray<string>
}

const source = (file: string): string => join(import.meta.dirname, file)

const compile = (): string | undefined => {
  const directory = join(import.meta.dirname, "../node_modules/.cache")
  const program = join(directory, "load")
  mkdirSync(directory, { recursive: true })
  const sources = ["load.c", "connections.c", "handshake.c"].map(source)
  const { status } = spawnSync(process.env["CC"] ?? "cc", ["-O2", "-std=gnu11", "-o", program, ...sources])
  return status === 0 ? program : undefined
}

/** The load generator of a kind, or the best there is. */
export const loadProgram = (kind?: string): LoadProgram => {
  const compiled = kind === "node" ? undefined : compile()
  if (compiled !== undefined) return { label: "a C program (epoll)", words: [compiled] }
  if (kind === "c") throw new Error("no C compiler, or no epoll")
  return { label: "a Node program (node:net)", words: [process.execPath, source("load.ts")] }
}
