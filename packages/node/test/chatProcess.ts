import { Effect } from "effect"
import { fileURLToPath } from "node:url"
import * as Example from "./exampleProcess.ts"

export const main = fileURLToPath(new URL("../../../examples/chat/main.ts", import.meta.url))

/** What `npm start` runs, on a free port; killed with the scope. */
export const start = Effect.map(Example.start("chat/main.ts", "--port", "0"), (example) => ({
  ...example,
  webSocketUrl: `${example.url.replace("http:", "ws:")}/chat`
}))
