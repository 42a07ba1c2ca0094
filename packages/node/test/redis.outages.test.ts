import { Room } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Queue, Schema, Scope } from "effect"
import { createServer, type Socket } from "node:net"
import { administer, hasRedis, listen, process, RedisServer, withRedis } from "./redisServer.ts"

const options = { timeout: "1 second", lease: "1500 millis" } as const
const people = Room.make("people", { member: Schema.String })

/** Who is in, as Redis has it. */
const inRedis = Effect.map(administer, (command) => ({
  command,
  members: Effect.map(command<Array<string>>("HKEYS", "effect-ws:members:people"), (ids) => new Set(ids.map(String)))
}))

/** What Redis counts. */
const stat = (command: Effect.Success<typeof administer>, section: string, name: string) =>
  Effect.map(
    command<string>("INFO", section),
    (stats) => Number(new RegExp(`^${name}:(?:calls=)?(\\d+)`, "m").exec(String(stats))?.[1] ?? 0)
  )

const subscriptions = (command: Effect.Success<typeof administer>) => stat(command, "commandstats", "cmdstat_subscribe")

/** Accepts connections in the place of Redis, and says nothing. */
const silence = Effect.fnUntraced(function*(url: string) {
  const connections = yield* Queue.unbounded<Socket>()
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    socket.on("error", () => {})
    sockets.add(socket)
    Queue.offerUnsafe(connections, socket)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.once("error", (error) => resume(Effect.die(error)))
      server.listen(Number(new URL(url).port), "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  )
  return connections
})

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

describe.skipIf(!hasRedis)("when leases could not be renewed", { timeout: 15_000 }, () => {
  it.live("members who were forgotten come back, though the answer that tells so is lost", () =>
    withRedis(Effect.gen(function*() {
      const redis = yield* RedisServer
      const { command, members } = yield* inRedis
      const rooms = yield* process({ timeout: "500 millis", lease: "3 seconds" })
      const { membership } = yield* listen(rooms, people, { metadata: "Ada" })
      yield* command("FLUSHALL")
      yield* redis.freeze
      // Meanwhile, the process renews its lease once at least, and gives up.
      for (let i = 0; i < 4; i++) yield* Effect.flip(rooms.publish(people, "too late"))
      yield* redis.thaw
      yield* Effect.repeat(members, { until: (ids) => ids.has(membership.id) })
    })))

  it.live("nobody leaves because all are over", () =>
    withRedis(Effect.gen(function*() {
      const { command } = yield* inRedis
      for (const rooms of [yield* process(options), yield* process(options)]) {
        yield* listen(rooms, people, { metadata: "Ada" })
      }
      const nodes = yield* command<ReadonlyArray<string>>("ZRANGE", "effect-ws:nodes", "0", "-1")
      assert.strictEqual(nodes.length, 2)
      yield* command("ZADD", "effect-ws:nodes", ...nodes.flatMap((node) => ["1", String(node)]))
      // Each process looks for dead ones.
      const searches = stat(command, "commandstats", "cmdstat_zrangebyscore")
      const before = yield* searches
      yield* Effect.repeat(searches, { until: (count) => count >= before + 2 })
      assert.strictEqual(yield* stat(command, "commandstats", "cmdstat_hdel"), 0)
    })))
})

describe.skipIf(!hasRedis)("a join without a connection to what is published", { timeout: 15_000 }, () => {
  const patient = { timeout: "1 minute", lease: "1 minute" } as const

  /** Ends the connections to what is published; they cannot come back. */
  const cut = Effect.gen(function*() {
    const { command } = yield* inRedis
    yield* command("CONFIG", "SET", "maxclients", "1")
    yield* command("CLIENT", "KILL", "TYPE", "pubsub")
  })

  const fails = <A, E extends { readonly reason: { readonly _tag: string } }, R>(join: Effect.Effect<A, E, R>) =>
    Effect.map(Effect.flip(join), (error) => assert.strictEqual(error.reason._tag, "BrokerUnavailable"))

  it.live("fails at once, also while that is being tried again", () =>
    withRedis(Effect.gen(function*() {
      const rooms = yield* process(patient)
      yield* listen(rooms, people, { metadata: "Ada" })
      yield* cut
      for (const name of ["people", "others", "still others"]) {
        yield* fails(listen(rooms, Room.make(name, { member: Schema.String }), { metadata: "Grace" }))
      }
    })))

  it.live("fails at once, if that is lost before what happens in the room is heard", () =>
    withRedis(Effect.gen(function*() {
      const { command } = yield* inRedis
      const rooms = yield* process(patient)
      yield* command("CLIENT", "PAUSE", "60000", "WRITE")
      const joining = yield* Effect.forkChild(fails(listen(rooms, people, { metadata: "Ada" })))
      yield* Effect.repeat(command<ReadonlyArray<string>>("PUBSUB", "CHANNELS"), {
        until: ({ length }) => length === 1
      })
      yield* cut
      yield* command("CLIENT", "UNPAUSE")
      yield* Fiber.join(joining)
      // Nor is it listened to when that is possible again, which it is not for a while.
      const rejections = stat(command, "stats", "rejected_connections")
      const before = yield* rejections
      yield* Effect.repeat(rejections, { until: (count) => count > before })
      yield* command("CONFIG", "SET", "maxclients", "1000")
      yield* Effect.repeat(subscriptions(command), { until: (count) => count === 2 })
      yield* Effect.repeat(command<ReadonlyArray<string>>("PUBSUB", "CHANNELS"), {
        until: ({ length }) => length === 0
      })
    })))

  it.live("fails at once, also while a new connection is not answered", () =>
    withRedis(Effect.gen(function*() {
      const redis = yield* RedisServer
      const rooms = yield* process(patient)
      yield* listen(rooms, people, { metadata: "Ada" })
      yield* redis.kill
      yield* Effect.scoped(Effect.gen(function*() {
        const connections = yield* silence(redis.url)
        // Two, and the one that the test has given it.
        yield* Effect.replicateEffect(Queue.take(connections), 3)
        for (const name of ["people", "others", "still others"]) {
          yield* fails(listen(rooms, Room.make(name, { member: Schema.String }), { metadata: "Grace" }))
        }
      }))
      yield* redis.start
      // A client of `redis` that is closed while it connects again may wait for ever: there are those three, and this one.
      const { command } = yield* inRedis
      yield* Effect.repeat(stat(command, "commandstats", "cmdstat_hello"), { until: (count) => count >= 4 })
    })))

  it.live("fails at once, if that is lost before its own entry is heard; it has left when it is back", () =>
    withRedis(Effect.gen(function*() {
      const { command, members } = yield* inRedis
      const rooms = yield* process(patient)
      const { membership } = yield* listen(rooms, people, { metadata: "Ada" })
      yield* command("CLIENT", "PAUSE", "60000", "WRITE")
      const joining = yield* Effect.forkChild(fails(listen(rooms, people, { metadata: "Grace" })))
      yield* Effect.repeat(stat(command, "clients", "blocked_clients"), { until: (count) => count === 1 })
      yield* cut
      yield* command("CLIENT", "UNPAUSE")
      yield* Fiber.join(joining)
      assert.deepStrictEqual([...yield* members], [membership.id])
    })))
})

describe.skipIf(!hasRedis)("a join that failed", { timeout: 15_000 }, () => {
  it.live("leaves no subscription, though Redis heard of it later", () =>
    withRedis(Effect.gen(function*() {
      const redis = yield* RedisServer
      const { command } = yield* inRedis
      const rooms = yield* process({ timeout: "300 millis", lease: "10 seconds" })
      const channels = command<ReadonlyArray<string>>("PUBSUB", "CHANNELS")
      yield* redis.freeze
      assert.strictEqual((yield* Effect.flip(rooms.count(people))).reason._tag, "BrokerUnavailable")
      yield* redis.thaw
      yield* Effect.repeat(subscriptions(command), { until: (count) => count === 1 })
      yield* Effect.repeat(channels, { until: ({ length }) => length === 0 })
      assert.strictEqual(yield* rooms.count(people), 0)
      assert.strictEqual((yield* channels).length, 1)
    })))
})
