import { assert, it } from "@effect/vitest"
import { Effect, Layer, Logger, References } from "effect"
import { connect, echo, start } from "./fixture.ts"

it.live("the debug log of a connection over a socket tells which of its frames are compressed (RFC 7692, section 6)", () => {
  const lines: Array<readonly [message: string, Record<string, unknown>]> = []
  const logger = Logger.make<unknown, void>(({ fiber, message }) => {
    const { bytes, compressed, extensions, opcode } = fiber.getRef(References.CurrentLogAnnotations)
    lines.push([String(message), { bytes, compressed, extensions, opcode }])
  })
  const shown = Layer.merge(Logger.layer([logger]), Layer.succeed(References.MinimumLogLevel, "Debug"))
  return Effect.gen(function*() {
    const { url } = yield* start(echo, { deflate: true })
    const connection = yield* connect(url, { deflate: true, debug: true }).pipe(Effect.provide(shown))
    yield* connection.send("x".repeat(10_000))
    yield* connection.receive
    yield* connection.send("y")
    yield* connection.receive
    yield* connection.close()
    const [opened, ...frames] = lines
    assert.strictEqual(opened?.[0], "WebSocket connection opened")
    assert.match(String(opened?.[1]["extensions"]), /^permessage-deflate/)
    assert.deepStrictEqual(frames.map(([message, { compressed, opcode }]) => [message, opcode, compressed]), [
      ["WebSocket frame sent", "text", true],
      ["WebSocket frame received", "text", true],
      ["WebSocket frame sent", "text", undefined],
      ["WebSocket frame received", "text", undefined],
      ["WebSocket frame sent", "close", undefined],
      ["WebSocket frame received", "close", undefined],
      ["WebSocket connection closed", undefined, undefined]
    ])
    assert.isBelow(Number(frames[0]?.[1]["bytes"]), 100)
  })
})
