import * as BrowserWebSocketClient from "@effect-ws/core/BrowserWebSocketClient"
import * as Reconnect from "@effect-ws/core/Reconnect"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { fakes, url } from "./fakeWebSocket.ts"
import { settle, start } from "./fixture.ts"

describe("reconnecting over the platform's WebSocket", () => {
  it.effect("a server that cannot be reached, or was lost, is tried again; what was sent meanwhile arrives", () =>
    Effect.gen(function*() {
      const { sockets, webSocket } = fakes()
      const connection = yield* Reconnect.connect(url, { schedule: Schedule.spaced("1 second") }).pipe(
        Effect.provide(BrowserWebSocketClient.layerWith({ webSocket }))
      )
      yield* settle
      sockets[0]!.fail()
      yield* connection.send("first")
      yield* TestClock.adjust("1 second")
      sockets[1]!.open()
      yield* settle
      assert.deepStrictEqual(sockets[1]!.calls, ["first"])
      const receiving = yield* start(connection.receive)
      sockets[1]!.fail()
      yield* TestClock.adjust("1 second")
      sockets[2]!.open()
      yield* settle
      sockets[2]!.receive("hello again")
      assert.strictEqual(yield* Fiber.join(receiving), "hello again")
      const closing = yield* start(connection.close())
      yield* settle
      sockets[2]!.closed(1000)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(sockets[2]!.calls, ["close 1000"])
    }))

  it.effect("an option that the platform cannot honour is not tried again", () =>
    Effect.gen(function*() {
      const { sockets, webSocket } = fakes()
      const connection = yield* Reconnect.connect(url, { headers: { authorization: "secret" } }).pipe(
        Effect.provide(BrowserWebSocketClient.layerWith({ webSocket }))
      )
      const error = yield* Effect.flip(connection.closed)
      assert.strictEqual(error.reason._tag, "ConnectError")
      assert.lengthOf(sockets, 0)
    }))
})
