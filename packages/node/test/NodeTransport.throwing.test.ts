import { NodeTransport } from "@effect-ws/node"
import { assert, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import * as Net from "node:net"
import { connectRaw } from "./rawPeer.ts"

/** Collects what nobody catches, instead of failing, from now to the end of the scope. */
const uncaughtErrors = Effect.acquireRelease(
  Effect.sync(() => {
    const before = process.listeners("uncaughtException")
    const errors: Array<unknown> = []
    process.removeAllListeners("uncaughtException").on("uncaughtException", (error) => errors.push(error))
    return Object.assign(errors, { before })
  }),
  ({ before }) =>
    Effect.sync(() => {
      process.removeAllListeners("uncaughtException")
      for (const listener of before) process.on("uncaughtException", listener)
    })
)

// In a file of its own, since others look for what nobody catches.
it.live("a socket reads to where its handler wanted it only once, also if the handler throws, which is reported", () =>
  Effect.gen(function*() {
    const uncaught = yield* uncaughtErrors
    const read = yield* Queue.unbounded<string>()
    const target = Buffer.allocUnsafeSlow(4).fill(0)
    const targets = [target]
    const server = Net.createServer((socket) =>
      NodeTransport.fromSocket(socket).start({
        onData: (chunk) => {
          Queue.offerUnsafe(read, Buffer.from(chunk).toString())
          if (chunk.buffer === target.buffer) throw new Error("not ours")
        },
        target: () => targets.shift(),
        onDrain: () => {},
        onOverrun: () => {},
        onEnd: () => {},
        onClose: () => {}
      })
    )
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () => Effect.sync(() => server.close())
    )
    const peer = yield* connectRaw((server.address() as Net.AddressInfo).port)
    for (const sent of ["one", "two", "four"]) {
      yield* peer.send(sent)
      assert.strictEqual(yield* Queue.take(read), sent)
    }
    assert.strictEqual(target.toString(), "two\0")
    assert.deepStrictEqual(uncaught.map(String), ["Error: not ours"])
  }))
