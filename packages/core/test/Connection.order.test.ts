import { Opcode } from "@effect-ws/core/protocol/Frame"
import { Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { control, frames, open, remainingFrames, start } from "./fixture.ts"

const fragment = (opcode: Opcode, text: string, fin: boolean) => ({ ...Wire.text(text), opcode, fin })

const openEcho = Effect.tap(
  open(),
  ({ connection }) =>
    start(Effect.ignore(Stream.runForEachArray(connection.messages, (batch) => connection.sendAll(batch))))
)

describe("what one read of the socket causes", () => {
  it.effect("the answer to a Ping goes ahead of the answer to the message that it came inside of (section 5.4)", () =>
    Effect.gen(function*() {
      const { peer } = yield* openEcho
      yield* peer.send(
        fragment(Opcode.text, "a", false),
        control(Opcode.ping, 1),
        fragment(Opcode.continuation, "b", false),
        control(Opcode.ping, 2),
        fragment(Opcode.continuation, "c", true)
      )
      assert.deepStrictEqual(yield* frames(peer, 3), ["pong 1", "pong 2", "text abc"])
    }))

  it.effect("the messages before a Close are answered before it", () =>
    Effect.gen(function*() {
      const { peer } = yield* openEcho
      yield* peer.send(Wire.text("a"), control(Opcode.ping, 1), Wire.close(1000))
      yield* peer.end
      assert.deepStrictEqual(yield* remainingFrames(peer), ["pong 1", "text a", "close 1000"])
    }))

  it.effect("the messages before a violation are answered before it (section 7.1.7)", () =>
    Effect.gen(function*() {
      const { peer } = yield* openEcho
      yield* peer.send(Wire.text("a"), { ...Wire.text("b"), rsv: 2 }, control(Opcode.ping, 1))
      yield* peer.end
      assert.deepStrictEqual(yield* remainingFrames(peer), [
        "text a",
        "close 1002 reserved bit set without an extension that defines it"
      ])
    }))
})
