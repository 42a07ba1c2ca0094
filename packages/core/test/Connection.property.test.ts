import { isControl, Opcode } from "@effect-ws/core/protocol/Frame"
import type { WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Schema, Stream } from "effect"
import * as Arbitrary from "effect/Arbitrary"
import { control, open, roles, settle, start } from "./fixture.ts"

const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

const Operation = Schema.TaggedUnion({
  Send: { size: upTo(120) },
  SendUnsafe: { size: upTo(120) },
  SendStream: { sizes: Schema.Array(upTo(60)).check(Schema.isMaxLength(3)) },
  SendPing: {},
  GiveUp: {},
  Stall: {},
  Unstall: {},
  PeerPing: {},
  PeerSend: { size: upTo(120) },
  Pull: {},
  Settle: {}
})

/** What the peer saw: whole messages, and control frames beside them. */
const listen = Effect.fnUntraced(function*(peer: WebSocketProbe.WebSocketProbe) {
  const decoder = new TextDecoder()
  const messages: Array<string> = []
  const controls: Array<{ readonly opcode: number; readonly number: number }> = []
  let partial: string | undefined
  while (true) {
    const { fin, opcode, payload } = yield* peer.frame
    if (opcode === Opcode.close) {
      assert.isUndefined(partial, "Close inside a message")
      return { messages, controls }
    }
    if (isControl(opcode)) {
      controls.push({ opcode, number: new DataView(payload.buffer).getUint32(0) })
      continue
    }
    assert.strictEqual(opcode === Opcode.continuation, partial !== undefined, "a frame out of place")
    const text = (partial ?? "") + decoder.decode(payload)
    partial = fin ? undefined : text
    if (fin) messages.push(text)
  }
})

const numbered = (opcode: Opcode, number: number) => control(opcode, 0, 0, number >>> 8, number & 255)

describe("any script of operations", () => {
  it.effect.prop(
    "the peer gets exactly the accepted messages, in order and whole, and we get all of its own",
    {
      script: Arbitrary.array(Arbitrary.schema(Operation), { maxLength: 60 }),
      role: Schema.Literals(roles),
      chunkBytes: Schema.Literals([1, 7, 64, 1000]),
      bufferBytes: Schema.Literals([0, 50, 1000])
    },
    ({ bufferBytes, chunkBytes, role, script }) =>
      Effect.scoped(Effect.gen(function*() {
        const { connection, peer } = yield* open({
          role,
          link: { bufferBytes, chunkBytes },
          receiveBufferBytes: 300,
          maxQueuedMessages: 4,
          maxQueuedBytes: 200
        })
        const listening = yield* start(listen(peer))
        const sends: Array<
          { readonly kind: "message" | "stream"; readonly text: string; readonly fiber: Fiber.Fiber<unknown, unknown> }
        > = []
        const pings: Array<Fiber.Fiber<unknown, unknown>> = []
        const sentByPeer: Array<string> = []
        const received: Array<unknown> = []
        let peerPings = 0

        for (const [index, operation] of script.entries()) {
          const text = (size: number) => `${index}:`.padEnd(size, "x")
          switch (operation._tag) {
            case "Send":
              sends.push({
                kind: "message",
                text: text(operation.size),
                fiber: yield* start(connection.send(text(operation.size)))
              })
              break
            case "SendUnsafe": {
              const result = connection.sendUnsafe(text(operation.size))
              assert.include(["Accepted", "Full"], result)
              if (result === "Full") break
              sends.push({ kind: "message", text: text(operation.size), fiber: yield* start(Effect.void) })
              break
            }
            case "SendStream": {
              const fragments = [`${index}:`, ...operation.sizes.map((size) => "y".repeat(size))]
              const fiber = yield* start(connection.sendStream(Stream.fromIterable(fragments)))
              sends.push({ kind: "stream", text: fragments.join(""), fiber })
              break
            }
            case "SendPing":
              pings.push(yield* start(connection.sendPing(numbered(Opcode.ping, index).payload)))
              break
            case "GiveUp": {
              const waiting = sends.find(({ fiber, kind }) => kind === "message" && fiber.pollUnsafe() === undefined)
              if (waiting !== undefined) yield* Fiber.interrupt(waiting.fiber)
              break
            }
            case "Stall":
              yield* peer.demand(0)
              break
            case "Unstall":
              yield* peer.demand(Infinity)
              break
            case "PeerPing":
              yield* peer.send(numbered(Opcode.ping, ++peerPings))
              break
            case "PeerSend":
              sentByPeer.push(text(operation.size))
              yield* peer.sendText(text(operation.size))
              break
            case "Pull":
              yield* settle
              if (received.length < sentByPeer.length) received.push(...yield* connection.pull)
              break
            case "Settle":
              yield* settle
          }
        }

        yield* peer.demand(Infinity)
        while (received.length < sentByPeer.length) received.push(yield* connection.receive)
        yield* settle
        yield* Fiber.awaitAll(pings)
        yield* Fiber.awaitAll(sends.map(({ fiber }) => fiber))
        yield* connection.drained
        assert.strictEqual(yield* connection.queuedMessages, 0)
        assert.strictEqual(yield* connection.queuedBytes, 0)
        const closing = yield* start(connection.close())
        const seen = yield* Fiber.join(listening)
        yield* peer.sendClose(1000)
        yield* peer.end
        yield* Fiber.join(closing)

        assert.deepStrictEqual(received, sentByPeer)
        const accepted = sends.filter(({ fiber }) => Exit.isSuccess(fiber.pollUnsafe()!))
        for (const kind of ["message", "stream"]) {
          const expected = accepted.filter((send) => send.kind === kind).map(({ text }) => text)
          assert.deepStrictEqual(seen.messages.filter((text) => expected.includes(text)), expected)
        }
        assert.strictEqual(seen.messages.length, accepted.length)
        const numbers = (wanted: Opcode) =>
          seen.controls.flatMap(({ number, opcode }) => opcode === wanted ? [number] : [])
        assert.strictEqual(numbers(Opcode.ping).length, pings.length)
        assert.deepStrictEqual(numbers(Opcode.ping), numbers(Opcode.ping).toSorted((a, b) => a - b))
        // Of pings that came while the peer did not read, only the last is answered.
        const answered = numbers(Opcode.pong)
        assert.deepStrictEqual(answered, answered.toSorted((a, b) => a - b))
        assert.strictEqual(new Set(answered).size, answered.length)
        assert.strictEqual(answered.at(-1) ?? 0, peerPings)
      })),
    { arbitrary: { runs: 300, seed: 1 } }
  )
})
