import { Effect } from "effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

/** A server among the examples that announces its page; killed with the scope. */
export const start = Effect.fnUntraced(function*(file: string, ...args: ReadonlyArray<string>) {
  const main = fileURLToPath(new URL(`../../../examples/${file}`, import.meta.url))
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "inherit"] })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const exitCode = new Promise<number | null>((resolve) => child.on("exit", resolve))
  let output = ""
  child.stdout.on("data", (chunk) => {
    output += String(chunk)
  })
  const printed = (pattern: RegExp) =>
    Effect.callback<string>((resume) => {
      const look = () => {
        const match = pattern.exec(output)
        if (match !== null) resume(Effect.succeed(match[0]))
      }
      child.stdout.on("data", look)
      look()
      return Effect.sync(() => child.stdout.off("data", look))
    })
  return {
    url: yield* printed(/http:\/\/\S+/),
    printed,
    signal: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal)),
    /** Sends a signal, and waits for the exit code. */
    stop: (signal: NodeJS.Signals) =>
      Effect.suspend(() => {
        child.kill(signal)
        return Effect.promise(() => exitCode)
      })
  }
}, Effect.timeout("30 seconds"))
