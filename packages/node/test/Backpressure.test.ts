import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Endpoint } from "./peers/endpoint.ts"
import type { Load } from "./peers/load.ts"
import type { Peer } from "./peers/peer.ts"
import * as Remote from "./peers/remote.ts"

const KiB = 1024
const MiB = 1024 * KiB

// 64 MiB in messages of ordinary size, and in tiny ones. Single bytes are the worst case for what a message costs beside
// its payload: four million of them tell as much as 64 million would.
const loads = {
  "16 KiB": { messages: 64 * MiB / (16 * KiB), size: 16 * KiB },
  "64 bytes": { messages: 64 * MiB / 64, size: 64 },
  "1 byte": { messages: 4 * MiB, size: 1 }
} as const satisfies Record<string, Load>

const roles = ["server", "client"] as const
const cases = roles.flatMap((role) =>
  (["16 KiB", "64 bytes", "1 byte"] as const).map((size) => ({ role, size, load: loads[size] }))
)

// More than the kernel's buffers take at both ends together, so that an end that reads nothing is felt.
const enough = 32 * MiB

// Our end and the peer, a process each. The young generation of ours has a fixed size: its growth would tell how fast
// garbage is made, and not what is held.
const open = Effect.fnUntraced(function*(role: "server" | "client") {
  const ours = yield* Remote.start<Endpoint>("endpoint.ts", ["--expose-gc", "--max-semi-space-size=1"])
  const peer = yield* Remote.start<Peer>("peer.ts")
  const port = yield* role === "server" ? ours("listen") : peer("listen")
  const connecting = role === "server" ? peer("connect", port) : ours("connect", port)
  return {
    ours,
    peer,
    /** Connects, and gives what memory has grown by since. */
    connect: Effect.gen(function*() {
      yield* connecting
      const before = yield* ours("memory")
      return Effect.map(ours("memory"), ({ live, resident }) => ({
        live: live - before.live,
        resident: resident - before.resident
      }))
    }),
    disconnect: Effect.andThen(ours("disconnect"), peer("disconnect"))
  }
})

// Code that is compiled and buffers that are made on first use are not what is measured. So all is done twice, the first
// time with a part of the load, which suffices to fill the kernel's buffers.
const warmedUp = <A, E, R>(load: Load, round: (load: Load) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.andThen(round({ ...load, messages: load.messages / 4 }), round(load))

// Asks until the answer has been the same twenty times in a row, over half a second. To answer, a process has to turn its
// event loop, and goes on if its socket lets it: one that merely gets no time is not taken for one that has stopped.
const settled = <A>(ask: Effect.Effect<A>): Effect.Effect<A> =>
  Effect.gen(function*() {
    let last = yield* ask
    for (let same = 0; same < 20; same++) {
      yield* Effect.sleep(25)
      const next = yield* ask
      if (JSON.stringify(next) !== JSON.stringify(last)) same = -1
      last = next
    }
    return last
  })

const timeout = 120_000

describe("backpressure", () => {
  it.live.each(cases)(
    "a peer that reads nothing suspends the sender ($role, messages of $size)",
    ({ load, role }) =>
      Effect.gen(function*() {
        const { connect, disconnect, ours, peer } = yield* open(role)
        const { grown, sent } = yield* warmedUp(
          load,
          Effect.fnUntraced(function*(load) {
            const growth = yield* connect
            const sending = yield* Effect.forkChild(ours("send", load))
            const sent = yield* settled(ours("sent"))
            const grown = yield* growth
            assert.deepStrictEqual(yield* peer("read", load), { messages: load.messages, inOrder: true })
            yield* Fiber.join(sending)
            yield* disconnect
            return { grown, sent }
          })
        )
        assert.isTrue(sent.isSending)
        assert.isTrue(sent.queuedMessages === 4096 || sent.queuedBytes + load.size + 14 > MiB, "the queue is full")
        assert.isBelow(sent.messages * load.size, enough)
        // What is alive is exactly what is held, but for memory outside the heap that Node does not count. That would be
        // resident, like pages that the collector keeps for later.
        assert.isBelow(grown.live, 4 * MiB)
        assert.isBelow(grown.resident, 4 * MiB)
      }),
    timeout
  )

  it.live.each(cases)(
    "a consumer that pulls nothing stops the peer ($role, messages of $size)",
    ({ load, role }) =>
      Effect.gen(function*() {
        const { connect, disconnect, ours, peer } = yield* open(role)
        const { flooded, grown } = yield* warmedUp(
          load,
          Effect.fnUntraced(function*(load) {
            const growth = yield* connect
            yield* peer("flood", load)
            const flooded = yield* settled(peer("flooded"))
            const grown = yield* growth
            assert.deepStrictEqual(yield* ours("consume", load), { messages: load.messages, inOrder: true })
            yield* disconnect
            return { flooded, grown }
          })
        )
        assert.isFalse(flooded.isDone)
        assert.isBelow(flooded.bytes, enough)
        assert.isBelow(grown.live, MiB)
      }),
    timeout
  )

  it.live.each(roles)("a pause stops the peer, whether somebody pulls or not (%s)", (role) =>
    Effect.gen(function*() {
      const load = loads["16 KiB"]
      const { connect, disconnect, ours, peer } = yield* open(role)
      yield* warmedUp(
        load,
        Effect.fnUntraced(function*(load) {
          const growth = yield* connect
          yield* ours("pause")
          yield* peer("flood", load)
          const paused = yield* settled(peer("flooded"))
          assert.isFalse(paused.isDone)
          assert.isBelow((yield* growth).live, MiB)

          // Without demand, `resume` lets in what fits into the buffer.
          yield* ours("resume")
          const resumed = yield* settled(peer("flooded"))
          assert.isFalse(resumed.isDone)
          assert.isBelow(resumed.bytes, enough)
          assert.isBelow((yield* growth).live, MiB)

          const consuming = yield* Effect.forkChild(ours("consumePausing", load))
          for (const part of [0.25, 0.5, 0.75]) {
            const { messages } = yield* settled(ours("received"))
            assert.isAtLeast(messages, load.messages * part)
            assert.isBelow((messages - load.messages * part) * load.size, MiB)
            yield* ours("resume")
          }
          assert.deepStrictEqual(yield* Fiber.join(consuming), { messages: load.messages, inOrder: true })
          yield* disconnect
        })
      )
    }), timeout)

  it.live.each(roles)("an echo to a peer that reads nothing stops that peer (%s)", (role) =>
    Effect.gen(function*() {
      const load = loads["16 KiB"]
      const { connect, disconnect, ours, peer } = yield* open(role)
      yield* warmedUp(
        load,
        Effect.fnUntraced(function*(load) {
          const growth = yield* connect
          const echoing = yield* Effect.forkChild(ours("echo", load))
          yield* peer("flood", load)
          const flooded = yield* settled(peer("flooded"))
          assert.isFalse(flooded.isDone)
          assert.isBelow((yield* growth).live, 4 * MiB)
          assert.deepStrictEqual(yield* peer("read", load), { messages: load.messages, inOrder: true })
          assert.deepStrictEqual(yield* Fiber.join(echoing), { messages: load.messages, inOrder: true })
          yield* disconnect
        })
      )
    }), timeout)
})
