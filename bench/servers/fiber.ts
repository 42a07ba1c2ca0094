/**
 * As `net-onread`, but the bytes of a socket pass through a fiber that waits for them: what is left for a protocol of what
 * structured concurrency costs.
 */
import * as Effect from "effect/Effect"
import { listen } from "./onread.ts"

listen((socket) => {
  let resume = (_: Effect.Effect<Buffer>): void => {}
  const pull = Effect.callback<Buffer>((waiting) => {
    resume = waiting
  })
  const fiber = Effect.runFork(Effect.gen(function*() {
    while (true) socket.write(yield* pull)
  }))
  socket.on("close", () => fiber.interruptUnsafe())
  return (chunk) => resume(Effect.succeed(chunk))
})
