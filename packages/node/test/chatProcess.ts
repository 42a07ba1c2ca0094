import { Effect } from "effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

export const main = fileURLToPath(new URL("../../../examples/chat/main.ts", import.meta.url))

/** What `npm start` runs, on a free port; killed with the scope. */
export const start = Effect.gen(function*() {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [main, "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const exitCode = new Promise<number | null>((resolve) => child.on("exit", resolve))
  const url = yield* Effect.callback<string>((resume) => {
    let output = ""
    child.stdout.on("data", (chunk) => {
      output += String(chunk)
      const printed = /http:\/\/\S+/.exec(output)
      if (printed !== null) resume(Effect.succeed(printed[0]))
    })
  })
  return {
    url,
    webSocketUrl: `${url.replace("http:", "ws:")}/chat`,
    /** Sends a signal, and waits for the exit code. */
    stop: (signal: NodeJS.Signals) =>
      Effect.suspend(() => {
        child.kill(signal)
        return Effect.promise(() => exitCode)
      })
  }
}).pipe(Effect.timeout("30 seconds"))
