import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { handOver, start, unhandledErrors } from "./fixture.ts"
import { frame, upgradeRaw } from "./rawPeer.ts"

// What hostile peers send, and what they do not read: conformance.test.ts. Time: packages/core/test.
describe("a peer that", () => {
  it.live("resets in the middle of a message is a lost connection (RFC 6455, section 7.1.5)", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { accept, serving } = yield* handOver()
      const { port } = yield* start(serving)
      const peer = yield* upgradeRaw(port)
      const connection = yield* accept
      yield* peer.send(
        frame("text", "whole"),
        frame("text", "part", { fin: false }),
        frame("continuation", "not all of it").subarray(0, 10)
      )
      assert.strictEqual(yield* connection.receive, "whole")
      yield* peer.reset
      const error = yield* Effect.flip(connection.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ConnectionLost")
      assert.deepStrictEqual(errors, [])
    }))
})
