/**
 * Rooms that span processes and machines, through Redis or Valkey.
 *
 * @since 0.1.0
 */
import type { History, Position } from "@effect-ws/core/Room"
import * as RoomBroker from "@effect-ws/core/RoomBroker"
import { type BrokerUnavailable, InsufficientHistory, RoomError } from "@effect-ws/core/RoomError"
import type { NodeRedis } from "@effect/platform-node/NodeRedis"
import * as Arr from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as RcMap from "effect/RcMap"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import type { Buffer } from "node:buffer"
import { crc32 } from "node:zlib"
import * as RedisEvents from "./internal/redisEvents.ts"
import * as RedisLink from "./internal/redisLink.ts"
import * as Scripts from "./internal/redisScripts.ts"
import { Attachment, type KeptEvent, type RoomState, Shard } from "./internal/redisShard.ts"

/**
 * How rooms are kept in Redis, all optional; the same for all processes.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `prefix` | `"effect-ws"` | what all keys and channels begin with |
 * | `shards` | 64 | the channels that rooms are spread over; a process listens to those of its rooms |
 * | `timeout` | 5 seconds | how long to wait for an answer of Redis, before `BrokerUnavailable` |
 * | `lease` | 15 seconds | after how much silence of a process its members have left, at most a third more |
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly prefix?: string | undefined
  readonly shards?: number | undefined
  readonly timeout?: Duration.Input | undefined
  readonly lease?: Duration.Input | undefined
}

/**
 * Provides a broker that shares rooms with all processes that use the same Redis (7 or newer) or Valkey.
 *
 * **Details**
 *
 * It opens two connections of its own, with the options of the `NodeRedis` in its context, and comes back by itself when
 * Redis was away.
 *
 * While Redis can be reached, a published message is delivered to every process exactly once, and in the same order in each.
 * Every event of a channel is counted, so a process that was cut off notices what it missed: a room with a history gets it
 * later, in its place, and another one gets a `Gap`; who is in is told anew.
 *
 * While Redis cannot be reached, `publish` and `join` fail with `BrokerUnavailable`: at once if there is no connection, and
 * otherwise after the timeout. Nothing is sent again, so nothing arrives twice. Members stay in their rooms.
 *
 * Each process renews its lease by a third of its time. The members of one that has died are removed by the others.
 *
 * **Gotchas**
 *
 * Redis Cluster is not supported, as scripts use keys that it would put on different nodes.
 *
 * A Redis that comes back with older data, after a restart from a snapshot or a failover to a replica that was behind, is
 * noticed by what processes and clients have seen. A lost message that no process knows of any more is missed in silence by
 * who has not seen it. A Redis that gets its first replica, or has been without one for an hour, looks as if it had started
 * anew, too: rooms without a history are told a `Gap` then.
 *
 * **Example** (Rooms across processes)
 *
 * ```ts
 * import { Rooms } from "@effect-ws/core"
 * import * as NodeRedisRoomBroker from "@effect-ws/node/NodeRedisRoomBroker"
 * import { NodeRedis } from "@effect/platform-node"
 * import { Layer } from "effect"
 *
 * const RoomsLive = Rooms.layer.pipe(
 *   Layer.provide(NodeRedisRoomBroker.layer()),
 *   Layer.provide(NodeRedis.layer({ url: "redis://localhost:6379" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<RoomBroker.RoomBroker, BrokerUnavailable, NodeRedis> =>
  Layer.effect(RoomBroker.RoomBroker, make(options))

/** A member of this process, and whether the process has heard of its entry. */
interface LocalMember {
  readonly room: string
  readonly metadata: RoomBroker.MemberRecord["metadata"]
  readonly entered: Deferred.Deferred<void>
}

const make = Effect.fnUntraced(function*(options: Options) {
  const random = yield* Random.Random
  const newId = () => RoomBroker.newId(random)
  const node = newId()
  const shardCount = options.shards ?? 64
  const lease = Duration.toMillis(options.lease ?? "15 seconds")
  const recovering = yield* FiberHandle.make<void>()
  const run = yield* FiberHandle.runtime(recovering)<never>()

  // The members of this process, and those who left when Redis could not be told.
  const members = new Map<string, LocalMember>()
  const departed = new Map<string, string>()
  const attachments = new Set<Attachment>()
  // Of a channel, there are two for a while if an attempt to listen to it fails beside one that succeeds.
  const shards = new Set<Shard>()

  const { evaluate, heard, listen } = yield* RedisLink.make({
    prefix: `${options.prefix ?? "effect-ws"}:`,
    timeout: Duration.fromInputUnsafe(options.timeout ?? "5 seconds"),
    lease,
    onReady: () => run(recover)
  })

  const shardOf = (room: string): number => crc32(room) % shardCount
  const inRoom = (room: string) => <A, R>(effect: Effect.Effect<A, BrokerUnavailable, R>) =>
    Effect.mapError(effect, (reason) => new RoomError({ room, reason }))
  // How long the offsets of a room go on: while its history may be asked for, and its lease be renewed.
  const remembered = ({ age }: History): number => whole(Duration.toMillis(age) + lease)

  const mark = (shard: Shard) => evaluate(Scripts.mark, shard.index, newId(), RedisEvents.body({ kind: "Mark" }))

  const listening = yield* RcMap.make({
    idleTimeToLive: "10 seconds",
    lookup: Effect.fnUntraced(function*(index: number) {
      const shard = new Shard(index)
      yield* listen(index, shard.receive)
      yield* Effect.acquireRelease(
        Effect.sync(() => shards.add(shard)),
        () => Effect.sync(() => shards.delete(shard))
      )
      yield* mark(shard)
      yield* heard(shard.listening)
      return shard
    })
  })

  const heardOf = (id: string) => {
    const member = members.get(id)
    if (member !== undefined) Deferred.doneUnsafe(member.entered, Effect.void)
  }
  const enter = (id: string, room: string, metadata: RoomBroker.MemberRecord["metadata"]) =>
    Effect.asVoid(
      evaluate(
        Scripts.enter,
        shardOf(room),
        newId(),
        RedisEvents.body({ kind: "Entered", room, id }, JSON.stringify(metadata)),
        room,
        node,
        id,
        JSON.stringify(metadata)
      )
    )
  const leave = (id: string, room: string) =>
    Effect.asVoid(
      evaluate(Scripts.leave, shardOf(room), newId(), RedisEvents.body({ kind: "Left", room, id }), room, node, id)
    )

  // Renews the lease. If this node was taken for dead, or Redis may have forgotten something, its members come back and who
  // has left does again. Redis says so once, so an answer that is lost counts as one, and it holds until all of them have.
  let mustReturn = false
  let knownRun = ""
  const oneAtATime = yield* Semaphore.make(1)
  const renewOnce = Effect.gen(function*() {
    const [isNew, hasRemoved, run] = yield* Effect.onError(
      evaluate(Scripts.lease, newId(), node, lease),
      () =>
        Effect.sync(() => {
          mustReturn = true
        })
    )
    mustReturn ||= isNew === 1 || String(run) !== knownRun
    knownRun = String(run)
    if (mustReturn) {
      for (const [id, room] of enteredOf(yield* evaluate(Scripts.entered, node))) {
        if (!members.has(id)) departed.set(id, room)
      }
      // Meanwhile, some leave or change: what counts is what a member is when its turn comes.
      yield* Effect.forEach(members.keys(), (id) =>
        Effect.suspend(() => {
          const member = members.get(id)
          return member === undefined ? Effect.void : enter(id, member.room, member.metadata)
        }), pipelined)
      mustReturn = false
    }
    yield* Effect.forEach(
      departed,
      ([id, room]) => Effect.tap(leave(id, room), () => Effect.sync(() => departed.delete(id))),
      pipelined
    )
    const kept = [...attachments].flatMap(({ history, room }) =>
      history === undefined ? [] : [[room, remembered(history)] as const]
    )
    // Redis does nothing else in the meantime, so it is not given all at once.
    yield* Effect.forEach(Arr.chunksOf(kept, 256), (some) => evaluate(Scripts.remember, ...some.flat()), pipelined)
    return hasRemoved === 1
  })
  const renew = oneAtATime.withPermit(Effect.repeat(renewOnce, { while: (mayRemoveMore) => mayRemoveMore }))

  // Finds out what was missed, as soon as that is possible.
  const markAll = Effect.suspend(() => Effect.forEach(shards, mark, pipelined))
  const recover: Effect.Effect<void> = Effect.andThen(renew, markAll).pipe(
    Effect.retry(Schedule.spaced("250 millis")),
    Effect.orDie
  )

  yield* renew
  yield* Effect.addFinalizer(() => Effect.ignore(evaluate(Scripts.release, newId(), node)))
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(lease / 3), Effect.ignore(renew))))

  const stateOf = ({ history, room }: Attachment) => (seen: ReadonlyArray<Position>) => {
    const known = seen.flatMap(({ epoch, offset }) => [epoch, offset])
    const remember = history === undefined ? [] : [remembered(history), ...known]
    const body = RedisEvents.body({ kind: "Lost", room })
    return Effect.map(
      evaluate(Scripts.snapshot, shardOf(room), newId(), body, room, ...remember),
      (reply): RoomState => {
        const [epoch, seq, fields, roomEpoch, offset] = reply as [Buffer, Buffer, Array<Buffer>, Buffer?, Buffer?]
        return {
          epoch: String(epoch),
          seq: Number(seq),
          members: membersOf(fields),
          position: roomEpoch && { epoch: String(roomEpoch), offset: Number(offset) }
        }
      }
    )
  }

  // What a room has kept, or the first part of it, and up to where; nothing if that is not all there was.
  const keptSince = (room: string, from: Position | "oldest", ...atMost: [] | [number]) =>
    Effect.map(
      evaluate(Scripts.since, room, ...(from === "oldest" ? ["", -1] : [from.epoch, from.offset]), ...atMost),
      (reply) => {
        if (reply === null) return undefined
        const [epoch, last, entries] = reply as [Buffer, Buffer, Array<Buffer>]
        const events: Array<KeptEvent> = []
        let upTo = { epoch: String(epoch), offset: Number(last) }
        for (let i = 0; i < entries.length; i += 3) {
          const position = upTo = { epoch: String(entries[i + 1]), offset: Number.parseInt(String(entries[i]), 10) }
          const event = RedisEvents.parseBody(entries[i + 2]!, position)?.event
          if (event?._tag === "Published") events.push({ ...event, position })
        }
        return { events, position: upTo, hasMore: upTo.offset < Number(last) }
      }
    )
  const missedSince = (room: string) => (position: Position) =>
    Effect.map(keptSince(room, position), (kept) => kept?.events)

  return RoomBroker.RoomBroker.of({
    attach: Effect.fnUntraced(function*(room, history, receive) {
      const resynchronizing = yield* FiberHandle.make<void>()
      const resynchronize = yield* FiberHandle.runtime(resynchronizing)<never>()
      const shard = yield* RcMap.get(listening, shardOf(room)).pipe(
        // The next to ask tries again.
        Effect.tapError(() => RcMap.invalidate(listening, shardOf(room)))
      )
      const deliver = (event: RoomBroker.BrokerEvent) => {
        receive(event)
        for (const id of enteredBy(event)) heardOf(id)
      }
      const attachment = new Attachment(room, history, deliver, () => {
        resynchronize(
          attachment.synchronize(stateOf(attachment), missedSince(room)).pipe(
            Effect.retry(Schedule.spaced("250 millis")),
            Effect.orDie
          )
        )
      })
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          shard.add(attachment)
          attachments.add(attachment)
        }),
        () =>
          Effect.sync(() => {
            shard.remove(attachment)
            attachments.delete(attachment)
          })
      )
      yield* attachment.synchronize(stateOf(attachment), undefined)
    }, (effect, room) => inRoom(room)(effect)),

    publish: (room, publication, history) =>
      Effect.suspend(() => {
        const keep = history === undefined
          ? []
          : [whole(history.messages), whole(Duration.toMillis(history.age)), remembered(history)]
        const body = RedisEvents.published(room, publication)
        const index = shardOf(room)
        return inRoom(room)(Effect.map(evaluate(Scripts.publish, index, newId(), body, room, ...keep), (reply) => {
          if (reply === null) return
          const position = { epoch: String(reply[0]), offset: Number(reply[1]) }
          for (const shard of shards) if (shard.index === index) shard.expect(room, position)
        }))
      }),

    enter: (room, { id, metadata }) =>
      Effect.suspend(() => {
        const entered = members.get(id)?.entered ?? Deferred.makeUnsafe<void>()
        members.set(id, { room, metadata, entered })
        return inRoom(room)(Effect.andThen(enter(id, room, metadata), heard(entered)))
      }),

    leave: (room, id) =>
      Effect.suspend(() => {
        if (!members.delete(id)) return Effect.void
        return Effect.catch(leave(id, room), () => Effect.sync(() => departed.set(id, room)))
      }),

    since: Effect.fnUntraced(function*(room, from) {
      const kept = yield* inRoom(room)(keptSince(room, from, messagesAtOnce))
      if (kept === undefined) {
        if (from === "oldest") return { messages: [], position: undefined, hasMore: false }
        return yield* new RoomError({ room, reason: new InsufficientHistory({}) })
      }
      const { events, hasMore, position } = kept
      return {
        messages: events.map(({ publication: { message }, position }) => ({ message, position })),
        position,
        hasMore
      }
    })
  })
})

// A client may take its time for what it asked for, and all that it got from Redis waits in memory.
const messagesAtOnce = 256
// Redis counts and measures time in whole numbers. This one is more than a hundred thousand years.
const whole = (number: number): number => Math.min(Math.ceil(number), 2 ** 52)
const pipelined = { concurrency: 64, discard: true } as const

// A room may have any name.
const enteredOf = (tags: ReadonlyArray<Buffer>) =>
  tags.map((tag): readonly [id: string, room: string] => {
    const [, id = "", room = ""] = /^\d+ (\S+) (.*)$/s.exec(String(tag)) ?? []
    return [id, room]
  })

const enteredBy = (event: RoomBroker.BrokerEvent): ReadonlyArray<string> =>
  event._tag === "Entered" ? [event.member.id] : event._tag === "Snapshot" ? event.members.map(({ id }) => id) : []

const membersOf = (fields: ReadonlyArray<Buffer>): ReadonlyArray<RoomBroker.MemberRecord> => {
  const members: Array<RoomBroker.MemberRecord> = []
  for (let i = 0; i < fields.length; i += 2) {
    const value = String(fields[i + 1])
    const metadata = RedisEvents.parseJson(value.slice(value.indexOf("\n") + 1)) as RoomBroker.MemberRecord["metadata"]
    members.push({ id: String(fields[i]), metadata })
  }
  return members
}
