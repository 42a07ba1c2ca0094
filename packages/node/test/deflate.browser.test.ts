import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Browser from "./browser.ts"
import { handOver, start } from "./fixture.ts"

// Runs in the page: tells what was agreed on, and the first message, once `count` messages have gone back.
const echo = ({ count, url }: { readonly count: number; readonly url: string }) =>
  new Promise<{ readonly extensions: string; readonly first: unknown }>((resolve, reject) => {
    const socket = new WebSocket(url)
    let echoed = 0
    let first: unknown
    socket.binaryType = "arraybuffer"
    socket.addEventListener("error", () => reject(new Error("not connected")))
    socket.addEventListener("message", ({ data }) => {
      first ??= data
      socket.send(data)
      if (++echoed === count) resolve({ extensions: socket.extensions, first })
    })
  })

const contextTakeover = true
const modes = {
  "without context takeover": [
    true,
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
  ],
  "with context takeover": [
    { threshold: 0, sending: { contextTakeover }, receiving: { contextTakeover } },
    "permessage-deflate"
  ],
  "with small windows": [
    {
      threshold: 0,
      sending: { contextTakeover, windowBits: 9 },
      receiving: { contextTakeover, windowBits: 10 }
    },
    "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10"
  ]
} as const

describe("permessage-deflate with Chromium", () => {
  it.live.skipIf(!Browser.isInstalled)("messages travel both ways, in all modes", () =>
    Effect.gen(function*() {
      const browser = yield* Browser.launch
      const page = yield* Effect.promise(() => browser.newPage())
      for (const [deflate, extensions] of Object.values(modes)) {
        const { accept, serving } = yield* handOver()
        // The page is of no origin.
        const { url } = yield* start(serving, { deflate, origin: { allow: "any" } })
        const messages = Array.from({ length: 50 }, (_, i) => {
          const text = `${i}: ${"κόσμε, 世界, 🌍 ".repeat(i * i)}`
          return i % 2 === 0 ? text : new TextEncoder().encode(text)
        })
        const echoing = yield* Effect.forkChild(Effect.promise(() => page.evaluate(echo, { count: 50, url })))
        const connection = yield* accept
        yield* Effect.forkChild(connection.sendAll(messages))
        for (const message of messages) assert.deepStrictEqual(yield* connection.receive, message)
        const seen = yield* Fiber.join(echoing)
        assert.deepStrictEqual(seen, { extensions, first: messages[0] })
      }
    }), { timeout: 60_000 })
})
