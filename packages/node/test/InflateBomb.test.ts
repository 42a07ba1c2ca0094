import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { constants, deflateRawSync } from "node:zlib"
import type { Endpoint } from "./peers/endpoint.ts"
import * as Remote from "./peers/remote.ts"
import { closeOf, connectRaw, frame, openingRequest } from "./rawPeer.ts"

const KiB = 1024
const MiB = 1024 * KiB

const compressed = (bytes: Uint8Array): Buffer =>
  deflateRawSync(bytes, { level: 9, finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)

const marked = (payload: Uint8Array, options: { readonly fin?: boolean } = {}) =>
  frame("binary", payload, { rsv: 4, ...options })

const bomb = compressed(Buffer.alloc(64 * MiB))

const connect = Effect.fnUntraced(function*(port: number) {
  const peer = yield* connectRaw(port)
  yield* peer.send(openingRequest({ headers: { "Sec-WebSocket-Extensions": "permessage-deflate" } }))
  assert.include(yield* peer.head, "permessage-deflate")
  return peer
})

// How to see the peak of a process's memory is told by Linux only.
describe.skipIf(process.platform !== "linux")(
  "an inflate bomb of 64 MiB, with a limit of 1 MiB (RFC 7692, section 8)",
  () => {
    const open = Effect.gen(function*() {
      const ours = yield* Remote.start<Endpoint>("endpoint.ts", ["--expose-gc", "--max-semi-space-size=1"])
      const port = yield* ours("listen", true)
      // Code that is compiled on first use is not what is measured: once, all is done with little data.
      const first = yield* connect(port)
      yield* first.send(marked(compressed(Buffer.alloc(100))), frame("binary", "", { rsv: 1 }))
      assert.strictEqual(closeOf(yield* first.frame)?.code, 1002)
      yield* first.rest
      yield* ours("memory")
      return { ours, port }
    })

    const sent: Record<string, ReadonlyArray<Uint8Array>> = {
      "in one frame": [marked(bomb)],
      "in fragments": [
        marked(bomb.subarray(0, 100), { fin: false }),
        frame("continuation", bomb.subarray(100, 200), { fin: false }),
        frame("continuation", bomb.subarray(200))
      ],
      "behind messages that nobody has pulled yet": [frame("text", "hello"), marked(bomb)]
    }

    it.live.each(Object.entries(sent))(
      "is answered 1009, and costs less than 8 MiB (%s)",
      ([, frames]) =>
        Effect.gen(function*() {
          assert.isBelow(bomb.length, 64 * KiB + 100)
          const { ours, port } = yield* open
          const before = yield* ours("watchPeak")
          const peer = yield* connect(port)
          yield* peer.send(...frames)
          assert.deepStrictEqual(closeOf(yield* peer.frame), { code: 1009, reason: "message exceeds 1048576 bytes" })
          yield* peer.rest
          assert.isBelow((yield* ours("peak")) - before, 8 * MiB)
        }),
      60_000
    )
  }
)
