import { Room } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema, Scope } from "effect"
import { administer, hasRedis, listen, process, RedisServer, withRedis } from "./redisServer.ts"

const options = { timeout: "1 second", lease: "1500 millis" } as const
const people = Room.make("people", { member: Schema.String })

/** Who is in, as Redis has it. */
const inRedis = Effect.map(administer, (command) => ({
  command,
  members: Effect.map(command<Array<string>>("HKEYS", "effect-ws:members:people"), (ids) => new Set(ids.map(String)))
}))

describe.skipIf(!hasRedis)("when Redis has forgotten who is in", { timeout: 15_000 }, () => {
  it.live("members come back, even if not all can at once", () =>
    withRedis(Effect.gen(function*() {
      const { command, members } = yield* inRedis
      const { membership } = yield* listen(yield* process(options), people, { metadata: "Ada" })
      // Redis learns of the process again, and not of its members.
      yield* command("ACL", "SETUSER", "default", "-hset")
      yield* command("FLUSHALL")
      yield* Effect.repeat(command<ReadonlyArray<unknown>>("ACL", "LOG"), { until: ({ length }) => length > 0 })
      assert.strictEqual((yield* members).size, 0)
      yield* command("ACL", "SETUSER", "default", "+hset")
      yield* Effect.repeat(members, { until: (ids) => ids.has(membership.id) })
    })))

  it.live("who leaves or changes while members come back has left, or is changed", () =>
    withRedis(Effect.gen(function*() {
      const { command, members } = yield* inRedis
      const rooms = yield* process({ ...options, timeout: "10 seconds" })
      const join = listen(rooms, people, { metadata: "Ada" })
      const leaving = yield* Scope.make()
      yield* Effect.replicateEffect(Scope.provide(join, leaving), 1000, { concurrency: 100 })
      const changing = yield* join
      const staying = yield* join
      yield* command("FLUSHALL")
      yield* Effect.repeat(members, { until: ({ size }) => size > 0 })
      yield* changing.membership.update("Grace")
      yield* Scope.close(leaving, Exit.void)
      // Members come back in the order in which they came.
      yield* Effect.repeat(members, { until: (ids) => ids.has(staying.membership.id) })
      assert.sameMembers([...yield* members], [changing.membership.id, staying.membership.id])
      const changed = yield* command<string>("HGET", "effect-ws:members:people", changing.membership.id)
      assert.include(String(changed), "Grace")
    })))

  it.live("who leaves is not overtaken by what is sent again since Redis has forgotten scripts", () =>
    withRedis(Effect.gen(function*() {
      const { command, members } = yield* inRedis
      const rooms = yield* process(options)
      const [ada, grace] = [
        yield* listen(rooms, people, { metadata: "Ada" }),
        yield* listen(rooms, people, { metadata: "Grace" })
      ]
      yield* command("SCRIPT", "FLUSH")
      // From here on, Redis knows how to leave again.
      yield* grace.membership.leave
      yield* Effect.all([ada.membership.update("Countess"), ada.membership.leave], { concurrency: "unbounded" })
      assert.strictEqual((yield* members).size, 0)
    })))

  it.live("who enters then is not left behind by a process that dies before it has renewed its lease", () =>
    withRedis(Effect.gen(function*() {
      const { command, members } = yield* inRedis
      yield* command("ACL", "SETUSER", "mortal", "on", ">mortal", "~*", "&*", "+@all")
      const rooms = yield* process({ timeout: "1 second", lease: "1 minute" }, "mortal")
      yield* listen(rooms, people, { metadata: "Ada" })
      yield* command("FLUSHALL")
      yield* listen(rooms, people, { metadata: "Grace" })
      assert.strictEqual((yield* members).size, 1)
      yield* command("ACL", "DELUSER", "mortal")
      yield* process(options)
      yield* Effect.repeat(members, { until: ({ size }) => size === 0 })
    })))
})

describe.skipIf(!hasRedis)("a join that failed", { timeout: 15_000 }, () => {
  it.live("leaves no subscription, though Redis heard of it later", () =>
    withRedis(Effect.gen(function*() {
      const redis = yield* RedisServer
      const { command } = yield* inRedis
      const rooms = yield* process({ timeout: "300 millis", lease: "10 seconds" })
      const channels = command<ReadonlyArray<string>>("PUBSUB", "CHANNELS")
      const subscriptions = Effect.map(command<string>("INFO", "commandstats"), (stats) =>
        Number(/cmdstat_subscribe:calls=(\d+)/.exec(String(stats))?.[1] ?? 0))
      yield* redis.freeze
      assert.strictEqual((yield* Effect.flip(rooms.count(people))).reason._tag, "BrokerUnavailable")
      yield* redis.thaw
      yield* Effect.repeat(subscriptions, {
        until: (count) =>
          count === 1
      })
      yield* Effect.repeat(channels, { until: ({ length }) => length === 0 })
      assert.strictEqual(yield* rooms.count(people), 0)
      assert.strictEqual((yield* channels).length, 1)
    })))
})
