import { type Message, Room, type Rooms } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Queue, Schedule, Schema, Scope, Stream } from "effect"
import { readFileSync } from "node:fs"
import { administer, hasRedis, listen, numbers, process, RedisServer, withRedis } from "./redisServer.ts"

// As it is sent.
const gap = "\"Gap\""

type Heard = ReadonlyArray<Message.Message>

/** Publishes 1, 2, 3 and so on, as fast as a millisecond apart; tells which were accepted. */
const storm = Effect.fnUntraced(function*(rooms: Rooms.Rooms["Service"], room: Room.Room<void, number>) {
  const accepted: Array<number> = []
  let next = 0
  // Of what is interrupted, nobody knows whether it was accepted.
  const one = Effect.uninterruptible(Effect.gen(function*() {
    const number = ++next
    const exit = yield* Effect.exit(rooms.publish(room, number))
    if (Exit.isSuccess(exit)) accepted.push(number)
  }))
  const fiber = yield* Effect.forkScoped(Effect.forever(Effect.andThen(one, Effect.sleep("1 millis"))))
  const until = (isEnough: () => boolean) => Effect.repeat(Effect.sleep("5 millis"), { until: isEnough })
  return {
    accepted,
    more: (count: number) => {
      const enough = accepted.length + count
      return until(() => accepted.length >= enough)
    },
    /** How many were tried. */
    get tried() {
      return next
    },
    stop: Effect.andThen(Fiber.interrupt(fiber), Effect.sync(() => accepted.at(-1)!))
  }
})

/** Each number at most once, in order, and where an accepted one is missing, there is a gap. */
const assertHonest = (heard: Heard, accepted: ReadonlyArray<number>) => {
  let last = 0
  const missing = new Set(accepted)
  let isGap = false
  for (const message of heard) {
    if (message === gap) {
      isGap = true
      continue
    }
    const each = Number(message)
    assert.isAbove(each, last, "twice, or out of order")
    for (const number of missing) {
      if (number < each) assert.isTrue(isGap, `${number} is missing before ${each}, and no gap is told`)
      if (number <= each) missing.delete(number)
    }
    isGap = false
    last = each
  }
  assert.strictEqual(missing.size, 0, "the latest are missing")
}

describe.skipIf(!hasRedis)("rooms across processes, through Redis", { timeout: 60_000 }, () => {
  it.live("a message reaches the members in all processes once, in one order", () =>
    withRedis(Effect.gen(function*() {
      const room = numbers("room")
      const processes = [yield* process(), yield* process(), yield* process()]
      const listeners = yield* Effect.forEach(processes, (rooms) => listen(rooms, room))
      const publishing = processes.map((rooms, i) =>
        Effect.forEach(Array.from({ length: 100 }, (_, n) => i * 100 + n), (n) => rooms.publish(room, n))
      )
      yield* Effect.all(publishing, { concurrency: "unbounded" })
      for (const { heard, until } of listeners) {
        yield* until(() => heard.length >= 300)
        assert.deepStrictEqual(heard, listeners[0]!.heard)
      }
      assert.sameMembers(listeners[0]!.heard.map(Number), Array.from({ length: 300 }, (_, n) => n))
    })))

  it.live("text, bytes, the name of a room and the overflow policy come as they are; a member may be left out", () =>
    withRedis(Effect.gen(function*() {
      const [here, there] = [yield* process(), yield* process()]
      const room = Room.make("a b\n\"ż\" 🌍")
      const [sender, receiver] = [yield* listen(here, room), yield* listen(there, room)]
      const messages = ["", "zażółć\n🌍", new Uint8Array(0), Uint8Array.from({ length: 256 }, (_, i) => i)]
      for (const message of messages) yield* here.publish(room, message, { except: sender.connection })
      yield* here.publish(room, "for all", { overflow: "drop-oldest" })
      yield* receiver.until((heard) => heard.length === 5)
      assert.deepStrictEqual(receiver.heard, [...messages, "for all"])
      assert.deepStrictEqual(receiver.overflows.slice(-2), [{ close: 1013 }, "drop-oldest"])
      yield* sender.until((heard) => heard.length === 1)
      assert.deepStrictEqual(sender.heard, ["for all"])
    })))

  it.live("presence and counts span processes", () =>
    withRedis(Effect.gen(function*() {
      const [here, there] = [yield* process(), yield* process()]
      const room = Room.make("people", {
        member: Schema.Struct({ name: Schema.String }),
        notify: (notice) =>
          notice._tag === "Gap" ? "Gap" : "member" in notice
            ? `${notice._tag} ${notice.member.metadata.name}`
            : notice.members.map(({ metadata }) => metadata.name).toSorted().join()
      })
      const ada = yield* listen(here, room, { metadata: { name: "Ada" } })
      const scope = yield* Scope.make()
      const grace = yield* Scope.provide(listen(there, room, { metadata: { name: "Grace" } }), scope)
      yield* ada.membership.update({ name: "Countess" })
      yield* grace.until((heard) => heard.length === 2)
      assert.deepStrictEqual(grace.heard, ["Ada,Grace", "Updated Countess"])
      assert.deepStrictEqual([yield* here.count(room), yield* there.count(room)], [2, 2])
      yield* Scope.close(scope, Exit.void)
      yield* ada.until((heard) => heard.length === 4)
      assert.deepStrictEqual(ada.heard, ["Ada", "Joined Grace", "Updated Countess", "Left Grace"])
      assert.deepStrictEqual([yield* here.count(room), yield* there.count(room)], [1, 1])
    })))

  it.live("a room that nobody uses any more leaves nothing in Redis", () =>
    withRedis(Effect.gen(function*() {
      const rooms = yield* process()
      const command = yield* administer
      const keys = Effect.map(command<Array<string>>("KEYS", "*"), (keys) => keys.toSorted())
      const before = yield* keys
      const scope = yield* Scope.make()
      yield* Scope.provide(listen(rooms, numbers("room")), scope)
      yield* rooms.publish(numbers("room"), 1)
      assert.notDeepEqual(yield* keys, before)
      yield* Scope.close(scope, Exit.void)
      // What is left belongs to the shard, of which there is a fixed number.
      assert.deepStrictEqual((yield* keys).filter((key) => !key.includes("shard:")), before)
    })))
})

describe.skipIf(!hasRedis)("history in Redis", { timeout: 60_000 }, () => {
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => String(from + i))

  it.live("a client resumes in another process, and what was missed is followed by what is new", () =>
    withRedis(Effect.gen(function*() {
      const [here, there] = [yield* process(), yield* process()]
      const room = numbers("room", { messages: 1000 })
      const scope = yield* Scope.make()
      const before = yield* Scope.provide(listen(here, room), scope)
      const storming = yield* storm(here, room)
      yield* before.until((heard) => heard.length >= 20)
      yield* Scope.close(scope, Exit.void)
      const { epoch } = Option.getOrThrow(before.membership.position)
      const position = { epoch, offset: before.heard.length }
      yield* storming.more(20)
      const after = yield* listen(there, room, { from: position })
      yield* storming.more(20)
      const last = yield* storming.stop
      yield* after.until((heard) => heard.at(-1) === String(last))
      assert.deepStrictEqual([...before.heard, ...after.heard], range(1, last))
    })))

  it.live("a long history comes whole, and is followed by what is new", () =>
    withRedis(Effect.gen(function*() {
      const rooms = yield* process()
      const room = numbers("room", { messages: 1000 })
      const count = 600
      yield* Effect.forEach(range(1, count), (n) => rooms.publish(room, Number(n)), { concurrency: 100 })
      const { heard, until } = yield* listen(rooms, room, { from: "oldest" })
      yield* rooms.publish(room, count + 1)
      yield* until(({ length }) => length > count)
      assert.deepStrictEqual(heard, range(1, count + 1))
    })))

  it.live("what is not there any more is told, and so are positions of another epoch and of the future", () =>
    withRedis(Effect.gen(function*() {
      const rooms = yield* process()
      const room = numbers("room", { messages: 3 })
      const { membership } = yield* listen(rooms, room)
      const position = Option.getOrThrow(membership.position)
      for (let i = 1; i <= 5; i++) yield* rooms.publish(room, i)
      const reason = (from: Room.Position) =>
        Effect.map(Effect.flip(listen(rooms, room, { from })), (error) => error.reason._tag)
      assert.strictEqual(yield* reason({ ...position, offset: 1 }), "InsufficientHistory")
      assert.strictEqual(yield* reason({ ...position, offset: 6 }), "InsufficientHistory")
      assert.strictEqual(yield* reason({ epoch: "other", offset: 4 }), "InsufficientHistory")
      assert.strictEqual(yield* reason({ epoch: "", offset: 4 }), "InsufficientHistory")
      assert.strictEqual(yield* rooms.count(room), 1)
      assert.deepStrictEqual((yield* listen(rooms, room, { from: { ...position, offset: 2 } })).heard, range(3, 5))
      assert.deepStrictEqual((yield* listen(rooms, room, { from: "oldest" })).heard, range(3, 5))
      assert.deepStrictEqual((yield* listen(rooms, room, { from: { ...position, offset: 5 } })).heard, [])
    })))

  it.live("a room whose offsets Redis has evicted begins anew, without what was kept under them", () =>
    withRedis(Effect.gen(function*() {
      const rooms = yield* process()
      const command = yield* administer
      const room = Room.make("room", { history: { messages: 100 } })
      for (const message of ["1", "2", "3"]) yield* rooms.publish(room, message)
      yield* command("DEL", "effect-ws:history:room")
      const { heard, until } = yield* listen(rooms, room, { from: "oldest" })
      yield* rooms.publish(room, "4")
      yield* until(({ length }) => length > 0)
      assert.deepStrictEqual(heard, ["4"])
      assert.deepStrictEqual((yield* listen(rooms, room, { from: "oldest" })).heard, ["4"])
    })))

  it.live("messages are kept no longer than the room says", () =>
    withRedis(Effect.gen(function*() {
      const rooms = yield* process()
      const room = Room.make("room", { history: { messages: 100, age: "500 millis" } })
      yield* rooms.publish(room, "old")
      yield* Effect.sleep("600 millis")
      yield* rooms.publish(room, "new")
      assert.deepStrictEqual((yield* listen(rooms, room, { from: "oldest" })).heard, ["new"])
      yield* Effect.sleep("600 millis")
      assert.deepStrictEqual((yield* listen(rooms, room, { from: "oldest" })).heard, [])
    })))
})

describe.skipIf(!hasRedis)("a history in Redis may be bounded", { timeout: 60_000 }, () => {
  it.live.each(
    [
      ["by number alone", { messages: 2, age: "Infinity" }],
      ["by age alone", { messages: Infinity, age: "1 day" }],
      ["by an age that is no whole number of milliseconds", { messages: 2, age: "60000.5 millis" }]
    ] as const
  )("%s", ([_, history]) =>
    withRedis(Effect.gen(function*() {
      const rooms = yield* process()
      const room = Room.make("room", { history })
      for (const message of ["1", "2", "3"]) yield* rooms.publish(room, message)
      const { heard, until } = yield* listen(rooms, room, { from: "oldest" })
      assert.deepStrictEqual(heard, history.messages === 2 ? ["2", "3"] : ["1", "2", "3"])
      yield* rooms.publish(room, "4")
      yield* until((heard) => heard.at(-1) === "4")
    })))
})

describe.skipIf(!hasRedis)("a Redis that is used for something else, too", { timeout: 60_000 }, () => {
  it.live("databases are apart, though all channels of a server are in all of them", () =>
    withRedis(Effect.gen(function*() {
      const room = numbers("room")
      const all = yield* Effect.forEach([0, 1, 2], (database) =>
        Effect.gen(function*() {
          const rooms = yield* process({}, undefined, { database })
          return { database, rooms, listener: yield* listen(rooms, room) }
        }))
      for (const { database, rooms } of all) {
        for (let i = 1; i <= 3; i++) yield* rooms.publish(room, 10 * database + i)
      }
      for (const { database, listener: { heard, until } } of all) {
        yield* until((heard) => heard.at(-1) === String(10 * database + 3))
        assert.deepStrictEqual(heard, [1, 2, 3].map((i) => String(10 * database + i)))
      }
    })))

  it.live("the user of the documentation may do all that is needed, and listens no longer than there is somebody", () =>
    withRedis(Effect.gen(function*() {
      const command = yield* administer
      const documentation = readFileSync(new URL("../../../docs/scaling-out.md", import.meta.url), "utf8")
      const needed = documentation.slice(
        documentation.indexOf("The user that"),
        documentation.indexOf("## When a process")
      )
      const commands = [...needed.matchAll(/`([A-Z]+)`/g)].map(([_, name]) => `+${name}`)
      yield* command("ACL", "SETUSER", "app", "on", ">app", "~effect-ws:*", "&effect-ws:*", ...commands)
      const people = Room.make("people", { member: Schema.String, history: { messages: 2 } })
      const rooms = yield* process({ lease: "300 millis" }, "app")
      const { membership, until } = yield* listen(rooms, people, { metadata: "Ada", from: "oldest" })
      for (const message of ["1", "2", "3"]) yield* rooms.publish(people, message)
      yield* until((heard) => heard.at(-1) === "3")
      yield* membership.update("Countess")
      yield* membership.leave
      // Meanwhile, the lease is renewed and both connections are pinged.
      yield* Effect.repeat(command<ReadonlyArray<string>>("PUBSUB", "CHANNELS"), {
        schedule: Schedule.spaced("50 millis"),
        until: ({ length }) => length === 0
      })
      // The client names itself if it may (CLIENT SETINFO, Redis 7.2), and does without.
      const refused = yield* command<ReadonlyArray<{ readonly object: string }>>("ACL", "LOG")
      assert.deepStrictEqual(refused.filter(({ object }) => object !== "client|setinfo"), [])
    })))
})

describe.skipIf(!hasRedis)("when Redis is away", { timeout: 60_000 }, () => {
  const options = { timeout: "1 second", lease: "3 seconds" } as const
  const plain = numbers("plain")
  const kept = numbers("kept", { messages: 10_000 })

  /** A storm in each of two rooms, and who listens to them in two processes. */
  const storms = Effect.gen(function*() {
    const [here, there] = [yield* process(options), yield* process(options)]
    const listeners = yield* Effect.forEach(
      [plain, kept],
      (room) => Effect.forEach([here, there], (rooms) => listen(rooms, room))
    )
    const storming = [yield* storm(here, plain), yield* storm(here, kept)] as const
    yield* Effect.forEach(storming, ({ more }) => more(50))
    return {
      here,
      there,
      storming,
      /** Goes on until everybody hears what is new, ends, and gives what was heard, by room. */
      end: Effect.gen(function*() {
        for (const [i, { tried }] of storming.entries()) {
          for (const { until } of listeners[i]!) yield* until((heard) => Number(heard.at(-1)) > tried)
        }
        const ended = yield* Effect.forEach(storming, ({ accepted, stop }, i) =>
          Effect.gen(function*() {
            const last = yield* stop
            yield* Effect.forEach(listeners[i]!, ({ until }) => until((heard) => heard.includes(String(last))))
            return { accepted, heard: listeners[i]!.map(({ heard }) => heard) }
          }))
        for (const { accepted, heard } of ended) for (const each of heard) assertHonest(each, accepted)
        return ended
      })
    }
  })

  it.live("killed for 5 seconds: a gap is told, delivery goes on, and nothing comes twice", () =>
    withRedis(Effect.gen(function*() {
      const redis = yield* RedisServer
      const { end, here, storming: [storming] } = yield* storms
      yield* redis.kill
      const error = yield* Effect.flip(here.publish(plain, 0))
      assert.strictEqual(error.reason._tag, "BrokerUnavailable")
      const { length } = storming.accepted
      yield* Effect.sleep("5 seconds")
      assert.strictEqual(storming.accepted.length, length)
      yield* redis.start
      for (const { heard } of yield* end) for (const each of heard) assert.include(each, gap)
    })))

  it.live("frozen for 5 seconds: what was accepted is not lost, and nothing comes twice", () =>
    withRedis(Effect.gen(function*() {
      const redis = yield* RedisServer
      const { end } = yield* storms
      yield* redis.freeze
      yield* Effect.sleep("5 seconds")
      yield* redis.thaw
      yield* end
    })))

  it.live("publish, join and count fail, whether Redis is frozen or gone, and work again after", () =>
    withRedis(Effect.gen(function*() {
      const redis = yield* RedisServer
      const rooms = yield* process({ timeout: "500 millis" })
      const { connection, membership } = yield* listen(rooms, plain)
      const fail = Effect.gen(function*() {
        const attempts: ReadonlyArray<
          Effect.Effect<unknown, { readonly reason: { readonly _tag: string } }, Scope.Scope>
        > = [
          rooms.publish(plain, 1),
          rooms.publish(numbers("new"), 1),
          Effect.scoped(listen(rooms, numbers("new"))),
          rooms.join(kept, connection),
          rooms.count(numbers("other"))
        ]
        for (const attempt of attempts) {
          assert.strictEqual((yield* Effect.flip(attempt)).reason._tag, "BrokerUnavailable")
        }
        assert.strictEqual(yield* rooms.count(plain), 1)
      })
      yield* redis.freeze
      yield* fail
      yield* redis.thaw
      yield* Effect.scoped(listen(rooms, numbers("new")))
      yield* redis.kill
      yield* fail
      yield* membership.leave
      yield* redis.start
      const again = listen(rooms, kept).pipe(Effect.retry(Schedule.spaced("100 millis")))
      const { until } = yield* again
      yield* rooms.publish(kept, 1)
      yield* until((heard) => heard.at(-1) === "1")
      assert.strictEqual(yield* rooms.count(plain), 0)
    })))

  it.live("cut off from what is published: a room with a history has it all, the other a gap", () =>
    withRedis(Effect.gen(function*() {
      const { end, storming } = yield* storms
      const command = yield* administer
      // Those who publish are still connected, those who listen cannot come back.
      yield* command("CONFIG", "SET", "maxclients", "1")
      yield* command("CLIENT", "KILL", "TYPE", "pubsub")
      yield* Effect.forEach(storming, ({ more }) => more(100))
      yield* command("CONFIG", "SET", "maxclients", "1000")
      const [inPlain, inKept] = yield* end
      for (const each of inPlain!.heard) assert.include(each, gap)
      for (const each of inKept!.heard) assert.deepStrictEqual(each, inKept!.accepted.map(String))
    })))

  it.live("members are who they were, also when Redis has forgotten all", () =>
    withRedis(Effect.gen(function*() {
      const redis = yield* RedisServer
      const [here, there] = [yield* process(options), yield* process(options)]
      const room = Room.make("people", { member: Schema.String })
      yield* listen(here, room, { metadata: "Ada" })
      const scope = yield* Scope.make()
      yield* Scope.provide(listen(there, room, { metadata: "Grace" }), scope)
      yield* listen(there, room, { metadata: "Edsger" })
      const names = yield* Queue.unbounded<string>()
      yield* Effect.forkScoped(
        Stream.runForEach(there.presence(room), () =>
          Effect.flatMap(there.members(room), (members) =>
            Queue.offer(
              names,
              members.map(({ metadata }) => metadata).toSorted().join()
            )))
      )
      assert.strictEqual(yield* Queue.take(names), "Ada,Edsger,Grace")
      yield* redis.kill
      // Who leaves meanwhile has left.
      yield* Scope.close(scope, Exit.void)
      yield* redis.start
      while ((yield* Queue.take(names)) !== "Ada,Edsger");
    })))
})
