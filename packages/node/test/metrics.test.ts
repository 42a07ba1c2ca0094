import { ConnectionMetrics } from "@effect-ws/core"
import * as NodeConnection from "@effect-ws/node/NodeConnection"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { duplexPair } from "node:stream"
import { connect, echo, start } from "./fixture.ts"

const read = (role: string, id: string) =>
  Effect.map(
    Metric.snapshot,
    (snapshots) =>
      Object.fromEntries(snapshots.flatMap(({ attributes = {}, id: its, state }) => {
        const { direction, form, role: of } = attributes
        const value = "count" in state ? state.count : "value" in state ? state.value : NaN
        return its === id && of === role ? [[[direction, form].join(" ").trim(), Number(value)]] : []
      }))
  )

const measured = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  test.pipe(Effect.provide(ConnectionMetrics.layer), Effect.provideService(Metric.MetricRegistry, new Map()))

describe("connection metrics over sockets", () => {
  it.live("tell the plain and the compressed bytes of both directions (RFC 7692)", () =>
    measured(Effect.gen(function*() {
      const { url } = yield* start(echo, { deflate: true })
      const connection = yield* connect(url, { deflate: true })
      yield* connection.send("x".repeat(10_000))
      assert.strictEqual(yield* connection.receive, "x".repeat(10_000))
      // Too short to be compressed.
      yield* connection.send("y")
      yield* connection.receive
      for (const role of ["client", "server"]) {
        const bytes = yield* read(role, "websocket_compression_bytes_total")
        assert.deepInclude(bytes, { "sent plain": 10_000, "received plain": 10_000 })
        assert.strictEqual(bytes["sent compressed"], bytes["received compressed"])
        assert.isBelow(bytes["sent compressed"]!, 100)
        const ratio = yield* read(role, "websocket_compression_ratio")
        assert.deepStrictEqual(ratio, {
          received: bytes["received compressed"]! / 10_000,
          sent: bytes["sent compressed"]! / 10_000
        })
        // What travels is what was compressed, with two headers, and two masks if it is a client's.
        const travelled = yield* read(role, "websocket_bytes_total")
        const overhead = 2 + 3 + (role === "client" ? 8 : 0)
        assert.strictEqual(travelled["sent"], bytes["sent compressed"]! + overhead)
      }
    })))

  it.live("count connections whose handshake others have done", () =>
    measured(Effect.gen(function*() {
      const [left, right] = duplexPair()
      const server = yield* NodeConnection.fromUpgraded(left, { role: "server" })
      const client = yield* NodeConnection.fromUpgraded(right, { role: "client" })
      yield* client.send("hello")
      yield* server.receive
      assert.deepStrictEqual(yield* read("server", "websocket_messages_total"), { received: 1, sent: 0 })
      assert.deepStrictEqual(yield* read("client", "websocket_messages_total"), { received: 0, sent: 1 })
      yield* client.close()
    })))
})
