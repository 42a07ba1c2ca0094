import { type Connection, Message, Room } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Latch, Layer, Option, Schedule, Schema, Scope } from "effect"
import { administer, hasRedis, listen, numbers, process, RedisServer, withRedis } from "./redisServer.ts"

const options = { timeout: "1 second", lease: "3 seconds" } as const
const room = numbers("kept", { messages: 100 })
// As it is sent.
const gap = "\"Gap\""

const again = Effect.retry(Schedule.spaced("50 millis"))

/** Kills Redis; it comes back with what it had saved. */
const restart = Effect.gen(function*() {
  const redis = yield* RedisServer
  yield* redis.kill
  yield* redis.start
})

/** Publishes 1 to 3, which Redis saves, and 4 to 6, of which it keeps nothing when it is killed. */
const publish = Effect.fnUntraced(function*(rooms: Effect.Success<ReturnType<typeof process>>) {
  const command = yield* administer
  for (let i = 1; i <= 3; i++) yield* rooms.publish(room, i)
  yield* command("SAVE")
  for (let i = 4; i <= 6; i++) yield* rooms.publish(room, i)
})

const resume = Effect.fnUntraced(function*(
  rooms: Effect.Success<ReturnType<typeof process>>,
  position: Room.Position
) {
  const { heard } = yield* listen(rooms, room, { from: position })
  return heard
})

const refusal = (rooms: Effect.Success<ReturnType<typeof process>>, position: Room.Position) =>
  Effect.map(Effect.flip(resume(rooms, position)), (error) => error.reason._tag)

/** A connection whose queue is full until it is drained. */
const slowMember = Effect.gen(function*() {
  const [isFull, isDrained] = [yield* Latch.make(), yield* Latch.make()]
  const heard: Array<string> = []
  const member = {
    queuedBytes: Effect.sync(() => isDrained.isOpen() ? 0 : 1),
    drained: isDrained.await,
    sendUnsafe: (sent: Message.Message | Message.Prepared) => {
      if (!isDrained.isOpen()) {
        isFull.openUnsafe()
        return "Full"
      }
      heard.push(String(Message.isPrepared(sent) ? sent.message : sent))
      return "Accepted"
    }
  }
  return { connection: member as unknown as Connection.Connection, heard, isFull, drain: isDrained.open }
})

describe.skipIf(!hasRedis)("when Redis comes back with older data", { timeout: 30_000 }, () => {
  it.live("members in all processes are told a gap, and no position of before counts, though new messages have its offset", () =>
    withRedis(Effect.gen(function*() {
      const [here, there] = [yield* process(options), yield* process(options)]
      const listeners = [yield* listen(here, room), yield* listen(there, room)]
      const { epoch } = Option.getOrThrow(listeners[0]!.membership.position)
      yield* publish(here)
      for (const { until } of listeners) yield* until(({ length }) => length === 6)
      yield* restart
      yield* again(here.publish(room, 7))
      for (const { until } of listeners) yield* until((heard) => heard.includes(gap))
      for (let i = 8; i <= 10; i++) yield* here.publish(room, i)
      for (const { heard, until } of listeners) {
        yield* until((heard) => heard.at(-1) === "10")
        // What is published before a process is back is part of the gap.
        assert.deepStrictEqual(heard.slice(0, 7), ["1", "2", "3", "4", "5", "6", gap])
        assert.deepStrictEqual(heard.slice(7), ["7", "8", "9", "10"].slice(11 - heard.length))
      }
      for (const offset of [2, 3, 6, 7]) {
        assert.strictEqual(yield* refusal(there, { epoch, offset }), "InsufficientHistory")
      }
      assert.deepStrictEqual((yield* listen(there, room, { from: "oldest" })).heard, [
        "1",
        "2",
        "3",
        "7",
        "8",
        "9",
        "10"
      ])
    })))

  it.live("who resumes before somebody knows that messages are lost is told later", () =>
    withRedis(Effect.gen(function*() {
      const command = yield* administer
      const allow = command("ACL", "SETUSER", "late", "on", ">late", "~*", "&*", "+@all")
      yield* allow
      const late = yield* process(options, "late")
      const before = yield* listen(late, room)
      const { epoch } = Option.getOrThrow(before.membership.position)
      yield* publish(late)
      yield* before.until(({ length }) => length === 6)
      // Redis does not save its users.
      yield* restart
      const rooms = yield* again(process(options))
      const after = yield* listen(rooms, room, { from: { epoch, offset: 3 } })
      yield* rooms.publish(room, 7)
      yield* after.until(({ length }) => length === 1)
      assert.deepStrictEqual(after.heard, ["7"])
      yield* again(allow)
      yield* after.until(({ length }) => length === 2)
      yield* before.until((heard) => heard.includes(gap))
      yield* rooms.publish(room, 8)
      yield* after.until(({ length }) => length === 3)
      yield* before.until((heard) => heard.at(-1) === "8")
      assert.deepStrictEqual(after.heard, ["7", gap, "8"])
      assert.deepStrictEqual(before.heard, ["1", "2", "3", "4", "5", "6", gap, "8"])
    })))

  it.live.each(["for the first time", "once more"])(
    "a message that nobody heard before it was lost, when Redis restarted %s, is a gap: its publisher knows of it",
    (which) =>
      withRedis(Effect.gen(function*() {
        const rooms = yield* process(options)
        const { heard, until } = yield* listen(rooms, room)
        const command = yield* administer
        yield* rooms.publish(room, 1)
        yield* until((heard) => heard.at(-1) === "1")
        yield* command("SAVE")
        if (which === "once more") {
          yield* restart
          // Whoever is asked for is heard of on the channel, so that is back.
          yield* again(listen(rooms, numbers("other")))
          yield* again(command("SAVE"))
        }
        yield* command("CONFIG", "SET", "maxclients", "1")
        yield* command("CLIENT", "KILL", "TYPE", "pubsub")
        yield* rooms.publish(room, 2)
        yield* restart
        yield* until((heard) => heard.includes(gap))
        yield* rooms.publish(room, 3)
        yield* until((heard) => heard.at(-1) === "3")
        assert.deepStrictEqual(heard, ["1", gap, "3"])
      }))
  )

  it.live("a position that only a client has seen is insufficient history, though new messages have its offset", () =>
    withRedis(Effect.gen(function*() {
      const scope = yield* Scope.make()
      const position = yield* Scope.provide(
        Effect.gen(function*() {
          const rooms = yield* process(options)
          const { membership } = yield* listen(rooms, room)
          yield* publish(rooms)
          return Option.getOrThrow(membership.position)
        }),
        scope
      )
      yield* Scope.close(scope, Exit.void)
      yield* restart
      const rooms = yield* again(process(options))
      assert.strictEqual(yield* refusal(rooms, { ...position, offset: 6 }), "InsufficientHistory")
      for (let i = 7; i <= 10; i++) yield* rooms.publish(room, i)
      assert.strictEqual(yield* refusal(rooms, { ...position, offset: 6 }), "InsufficientHistory")
      assert.strictEqual(yield* refusal(rooms, { ...position, offset: 4 }), "InsufficientHistory")
    })))

  it.live("no position of before counts either when Redis comes back with the same data once more", () =>
    withRedis(Effect.gen(function*() {
      const rooms = yield* process(options)
      const { heard, membership, until } = yield* listen(rooms, room)
      const { epoch } = Option.getOrThrow(membership.position)
      yield* publish(rooms)
      for (let i = 7; i <= 8; i++) {
        const gaps = heard.filter((each) => each === gap).length
        yield* restart
        yield* until((heard) => heard.filter((each) => each === gap).length > gaps)
        assert.strictEqual(yield* refusal(rooms, { epoch, offset: 3 }), "InsufficientHistory")
        yield* rooms.publish(room, i)
        yield* until((heard) => heard.at(-1) === String(i))
      }
      assert.deepStrictEqual(heard, ["1", "2", "3", "4", "5", "6", gap, "7", gap, "8"])
    })))

  it.live("a history of which nothing is lost is resumed, by members and by clients, however often Redis restarts", () =>
    withRedis(Effect.gen(function*() {
      const rooms = yield* process(options)
      const command = yield* administer
      const { heard, membership, until } = yield* listen(rooms, room)
      const { epoch } = Option.getOrThrow(membership.position)
      for (let i = 1; i <= 4; i++) {
        yield* again(rooms.publish(room, i))
        yield* until((heard) => heard.at(-1) === String(i))
        yield* again(command("SAVE"))
        yield* restart
      }
      yield* again(rooms.publish(room, 5))
      yield* until((heard) => heard.at(-1) === "5")
      assert.deepStrictEqual(heard, ["1", "2", "3", "4", "5"])
      assert.deepStrictEqual(yield* resume(rooms, { epoch, offset: 0 }), ["1", "2", "3", "4", "5"])
      assert.deepStrictEqual(yield* resume(rooms, { epoch, offset: 1 }), ["2", "3", "4", "5"])
      assert.strictEqual(yield* refusal(rooms, { epoch, offset: 2 }), "InsufficientHistory")
    })))

  it.live("a message has one position, as it is delivered and as it is kept, over restarts", () =>
    withRedis(Effect.gen(function*() {
      const stamped = Room.make("stamped", {
        history: { messages: 10 },
        stamp: (message, { epoch, offset }) => `${message} ${epoch} ${offset}`
      })
      const rooms = yield* process(options)
      const command = yield* administer
      const { heard, until } = yield* listen(rooms, stamped)
      for (let i = 1; i <= 3; i++) {
        yield* again(rooms.publish(stamped, "a"))
        yield* rooms.publish(stamped, "b")
        yield* until(({ length }) => length === 2 * i)
        yield* again(command("SAVE"))
        yield* restart
      }
      const kept = yield* again(listen(rooms, stamped, { from: "oldest" }))
      assert.deepStrictEqual(kept.heard, heard)
    })))

  it.live("who comes back from a time that is forgotten, but not lost, is told a gap, and nobody else is", () =>
    withRedis(Effect.gen(function*() {
      const short = numbers("short", { messages: 2 })
      const command = yield* administer
      const allow = command("ACL", "SETUSER", "late", "on", ">late", "~*", "&*", "+@all")
      yield* allow
      const [rooms, late] = [yield* process(options), yield* process(options, "late")]
      const [here, there] = [yield* listen(rooms, short), yield* listen(late, short)]
      yield* rooms.publish(short, 1)
      yield* there.until(({ length }) => length === 1)
      yield* command("SAVE")
      yield* restart
      for (let i = 2; i <= 4; i++) {
        yield* again(rooms.publish(short, i))
        yield* here.until((heard) => heard.at(-1) === String(i))
      }
      yield* again(command("SAVE"))
      yield* restart
      yield* again(rooms.publish(short, 5))
      yield* again(allow)
      yield* there.until((heard) => heard.includes(gap))
      yield* rooms.publish(short, 6)
      for (const { until } of [here, there]) yield* until((heard) => heard.at(-1) === "6")
      assert.deepStrictEqual(there.heard, ["1", gap, "6"])
      assert.deepStrictEqual(here.heard, ["1", "2", "3", "4", "5", "6"])
    })))

  it.live("a room that keeps no messages, but has positions, goes on", () =>
    withRedis(Effect.gen(function*() {
      const fleeting = numbers("fleeting", { messages: 0 })
      const rooms = yield* process(options)
      const command = yield* administer
      yield* rooms.publish(fleeting, 1)
      yield* command("SAVE")
      yield* restart
      yield* again(rooms.publish(room, 1))
      yield* rooms.publish(fleeting, 2)
    })))

  it.live("who catches up meanwhile gets all, and then what is new", () =>
    withRedis(Effect.gen(function*() {
      const rooms = yield* process(options)
      const command = yield* administer
      const { until } = yield* listen(rooms, room)
      for (let i = 1; i <= 3; i++) yield* rooms.publish(room, i)
      const slow = yield* slowMember
      const joining = yield* Effect.forkChild(rooms.join(room, slow.connection, { from: "oldest" }))
      yield* slow.isFull.await
      yield* rooms.publish(room, 4)
      yield* until((heard) => heard.at(-1) === "4")
      yield* command("SAVE")
      yield* restart
      yield* again(rooms.publish(room, 5))
      yield* until((heard) => heard.at(-1) === "5")
      yield* slow.drain
      yield* Fiber.join(joining)
      yield* rooms.publish(room, 6)
      yield* until((heard) => heard.at(-1) === "6")
      assert.deepStrictEqual(slow.heard, ["1", "2", "3", "4", "5", "6"])
    })))

  it.live("who entered or left in between is in, or is not", () =>
    withRedis(Effect.gen(function*() {
      const people = Room.make("people", { member: Schema.String })
      const [here, there] = [yield* process(options), yield* process(options)]
      const command = yield* administer
      const leaving = yield* Scope.make()
      const ada = yield* listen(here, people, { metadata: "Ada" })
      yield* Scope.provide(listen(there, people, { metadata: "Edsger" }), leaving)
      yield* command("SAVE")
      yield* Scope.close(leaving, Exit.void)
      const grace = yield* listen(there, people, { metadata: "Grace" })
      yield* ada.membership.update("Countess")
      yield* restart
      const members = "return redis.call('HGETALL', 'effect-ws:members:people')"
      const now = yield* Effect.repeat(again(command<ReadonlyArray<string>>("EVAL", members, "0")), {
        until: (now) => now.length === 4 && !String(now).includes("Edsger") && String(now).includes("Countess")
      })
      assert.sameMembers([String(now[0]), String(now[2])], [ada.membership.id, grace.membership.id])
    })))

  it.live("nobody leaves because the leases that Redis has saved are over", () =>
    withRedis(Effect.gen(function*() {
      const people = Room.make("people", { member: Schema.String })
      const command = yield* administer
      const rooms = [yield* process({ lease: "30 seconds" }), yield* process({ lease: "30 seconds" })]
      for (const each of rooms) yield* listen(each, people, { metadata: "Ada" })
      const nodes = yield* command<ReadonlyArray<string>>("ZRANGE", "effect-ws:nodes", "0", "-1")
      assert.strictEqual(nodes.length, 2)
      for (const node of nodes) yield* command("ZADD", "effect-ws:nodes", "1", String(node))
      yield* command("SAVE")
      yield* restart
      // Of a Redis that has just started, it tells what was ever done.
      const calls = Effect.map(
        again(command<string>("INFO", "commandstats")),
        (stats) => (name: string) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(String(stats))?.[1] ?? 0)
      )
      // Each process has looked for dead ones.
      const done = yield* Effect.repeat(calls, { until: (of) => of("zrangebyscore") >= 2 })
      assert.strictEqual(done("hdel"), 0)
    })))

  it.live("a replica that was behind and takes over is noticed, though all connections stay", () =>
    withRedis(Effect.gen(function*() {
      const replica = Context.get(yield* Layer.build(Layer.fresh(RedisServer.layer)), RedisServer)
      const master = yield* RedisServer
      const rooms = yield* process(options)
      const command = yield* administer
      const commandReplica = yield* Effect.provideService(administer, RedisServer, replica)
      const port = (server: typeof master) => new URL(server.url).port
      for (const each of [command, commandReplica]) yield* each("CONFIG", "SET", "repl-diskless-sync-delay", "0")
      const follow = Effect.fnUntraced(function*(follower: typeof command, leader: typeof master) {
        yield* follower("REPLICAOF", "127.0.0.1", port(leader))
        yield* Effect.repeat(follower("INFO", "replication"), {
          until: (info) => String(info).includes("master_link_status:up")
        })
        yield* follower("REPLICAOF", "NO", "ONE")
      })
      const { heard, membership, until } = yield* listen(rooms, room)
      const { epoch } = Option.getOrThrow(membership.position)
      for (let i = 1; i <= 3; i++) yield* rooms.publish(room, i)
      yield* follow(commandReplica, master)
      for (let i = 4; i <= 6; i++) yield* rooms.publish(room, i)
      yield* until(({ length }) => length === 6)
      // What the replica has becomes what Redis has.
      yield* follow(command, replica)
      for (let i = 7; i <= 10; i++) yield* again(rooms.publish(room, i))
      yield* until((heard) => heard.at(-1) === "10")
      assert.include(heard, gap)
      assert.strictEqual(yield* refusal(rooms, { epoch, offset: 6 }), "InsufficientHistory")
    })))
})
