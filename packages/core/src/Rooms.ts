/**
 * Connections that meet: what is published to a room reaches all that have joined it.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Connection } from "./Connection.ts"
import { type LocalMember, LocalRoom } from "./internal/localRoom.ts"
import type { Gap, Member, Position, Presence, Published, Room, RoomOverflow } from "./Room.ts"
import * as RoomBroker from "./RoomBroker.ts"
import { AlreadyMember, InsufficientHistory, RoomError } from "./RoomError.ts"
import { ConnectionNotOpen, type EncodeError, SendError } from "./WebSocketError.ts"

/**
 * The rooms of this process, which may span others: see `RoomBroker`.
 *
 * **Details**
 *
 * - `join` lets a connection in until the scope closes; see {@link JoinOptions}. In the scope of a handler of
 *   `WebSocketServer.serve`, that is until the handler ends.
 * - `publish` sends a message to all members. It succeeds when the broker has it, and waits for no member: one whose queue is
 *   full gets what the overflow policy says. The message is encoded (and compressed) once in each process.
 * - `members` and `count` tell who is in now, in all processes.
 * - `presence` is the same and what changes: a `Snapshot` first, nothing lost after it. A consumer that is more than 1,024
 *   changes behind gets another `Snapshot` instead.
 * - `messages` are those published from now on, for who is not a connection, as they were published. A consumer that is more
 *   than 1,024 behind gets a `Gap` instead.
 *
 * A room exists while somebody is in it or watches it, or it has kept messages. Otherwise nothing is left of it.
 *
 * **Gotchas**
 *
 * A membership belongs to a scope, and a connection that ends does not end its handler: one that does not read `messages` to
 * their end has to wait for `connection.closed`.
 *
 * @category services
 * @since 0.1.0
 */
export class Rooms extends Context.Service<Rooms, {
  readonly join: <Metadata>(
    room: Room<Metadata, never>,
    connection: Connection,
    ...options: [void] extends [Metadata] ? [options?: JoinOptions<Metadata>]
      : [options: JoinOptions<Metadata> & { readonly metadata: Metadata }]
  ) => Effect.Effect<Membership<Metadata>, RoomError | SendError, Scope.Scope>
  readonly publish: <Metadata, Value>(
    room: Room<Metadata, Value>,
    value: Value,
    options?: PublishOptions
  ) => Effect.Effect<void, RoomError | EncodeError>
  readonly members: <Metadata>(
    room: Room<Metadata, never>
  ) => Effect.Effect<ReadonlyArray<Member<Metadata>>, RoomError>
  readonly count: <Metadata>(room: Room<Metadata, never>) => Effect.Effect<number, RoomError>
  readonly presence: <Metadata>(room: Room<Metadata, never>) => Stream.Stream<Presence<Metadata>, RoomError>
  readonly messages: <Metadata>(room: Room<Metadata, never>) => Stream.Stream<Published | Gap, RoomError>
}>()("@effect-ws/core/Rooms/Rooms") {}

/**
 * How a connection joins.
 *
 * **Details**
 *
 * - `metadata` is what the others see of it.
 * - `from` asks for messages of the past: those after a position, or the `"oldest"` that the room has kept and all after it.
 *   They are sent in order, waiting where the connection's queue is full, and those published meanwhile follow without a gap
 *   or a repetition. `join` succeeds when all are sent. If some are missing, it fails with `InsufficientHistory`. What the
 *   room's `notify` says meanwhile waits, too: 1,024 messages at most, beyond which the room's overflow policy decides.
 *
 * @category models
 * @since 0.1.0
 */
export interface JoinOptions<out Metadata> {
  readonly metadata?: Metadata | undefined
  readonly from?: Position | "oldest" | undefined
}

/**
 * Whom a message is not for, and what becomes of it where there is no room for it (default: what the room says).
 *
 * **Gotchas**
 *
 * A history keeps messages for all: one that comes to catch up gets those that were not for it, too.
 *
 * @category models
 * @since 0.1.0
 */
export interface PublishOptions {
  readonly except?: Connection | undefined
  readonly overflow?: RoomOverflow | undefined
}

/**
 * A connection's being in a room.
 *
 * **Details**
 *
 * `position` is that of the room's latest message when the connection joined, if the room has a history: what it is sent
 * comes after. `update` changes the metadata, as long as the connection is in the room. `leave` ends the membership before
 * its scope does.
 *
 * @category models
 * @since 0.1.0
 */
export interface Membership<in Metadata> {
  readonly id: string
  readonly position: Option.Option<Position>
  readonly update: (metadata: Metadata) => Effect.Effect<void, RoomError>
  readonly leave: Effect.Effect<void>
}

/**
 * Provides rooms that span all processes whose broker is connected to the same place.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Rooms, never, RoomBroker.RoomBroker> = Layer.effect(
  Rooms,
  Effect.gen(function*() {
    const broker = yield* RoomBroker.RoomBroker
    const random = yield* Random.Random
    const context = yield* Effect.context<never>()
    // Those that are attached, or are being so.
    const open = new Map<string, LocalRoom<any>>()

    const attached = yield* RcMap.make({
      lookup: Effect.fnUntraced(function*(room: Room<any, never>) {
        const onDefect = (defect: unknown) => {
          Effect.runForkWith(context)(Effect.logError(`A function of room ${room.name} failed`, Cause.die(defect)))
        }
        const local = new LocalRoom(room, onDefect)
        yield* Effect.acquireRelease(
          Effect.sync(() => open.set(room.name, local)),
          () => Effect.sync(() => open.get(room.name) === local && open.delete(room.name))
        )
        yield* broker.attach(room.name, room.history, (event) => local.receive(event))
        yield* Deferred.await(local.ready)
        return local
      })
    })
    const attach = <Metadata>(room: Room<Metadata, never>) =>
      RcMap.get(attached, room) as Effect.Effect<LocalRoom<Metadata>, RoomError, Scope.Scope>

    // Clients may say what they like, if nobody has checked it before.
    const since = (room: Room<any, never>, from: Position | "oldest") =>
      from === "oldest" || (Number.isSafeInteger(from.offset) && from.offset >= 0)
        ? broker.since(room.name, from)
        : Effect.fail(new RoomError({ room: room.name, reason: new InsufficientHistory({}) }))

    // What has arrived before it is asked for is part of the answer.
    const missedSince = (room: Room<any, never>, local: LocalRoom<any>, from: Position | "oldest") =>
      Effect.suspend(() => {
        const { arrivals } = local
        return Effect.map(since(room, from), (kept) => ({ ...kept, arrivals }))
      })

    const catchUp = Effect.fnUntraced(
      function*<M>(
        room: Room<M, never>,
        local: LocalRoom<M>,
        member: LocalMember,
        first: Effect.Success<ReturnType<typeof missedSince>>
      ) {
        const { connection } = member
        let kept = first
        while (true) {
          for (const { message, position } of kept.messages) {
            const rendered = local.render(message, position)
            if (rendered !== undefined) yield* sendWaiting(connection, () => connection.sendUnsafe(rendered, "suspend"))
            member.has?.set(position.epoch, position.offset)
          }
          let { position } = kept
          let recent = kept.hasMore ? undefined : local.recentSince(position, kept.arrivals)
          while (recent !== undefined) {
            if (recent.length === 0 && member.untold.length === 0) return local.goLive(member, position)
            for (const { position, prepared } of recent) {
              yield* sendWaiting(connection, () => connection.sendUnsafe(prepared, "suspend"))
              member.has?.set(position.epoch, position.offset)
            }
            position = recent.at(-1)?.position ?? position
            yield* sendWaiting(connection, () => local.catchUpOnNotices(member))
            recent = local.recentSince(position, kept.arrivals)
          }
          kept = yield* missedSince(room, local, position ?? "oldest")
        }
      }
    )

    const enter = Effect.fnUntraced(function*<Metadata>(
      room: Room<Metadata, never>,
      connection: Connection,
      { from, metadata }: JoinOptions<Metadata>,
      id: string
    ) {
      const local = yield* attach(room)
      const member = yield* Effect.acquireRelease(
        Effect.suspend(() =>
          local.members.has(connection)
            ? Effect.fail(new RoomError({ room: room.name, reason: new AlreadyMember({}) }))
            : Effect.succeed(local.add(id, connection, from))
        ),
        (member) =>
          Effect.suspend(() => {
            local.remove(member)
            return broker.leave(room.name, id)
          })
      )
      const isIn = () => local.members.get(connection) === member
      // Who has left would never leave again; nor would who does meanwhile.
      const update = (metadata: Metadata) =>
        Effect.flatMap(Effect.orDie(room.metadata.encode(metadata)), (metadata) =>
          isIn()
            ? Effect.ensuring(
              broker.enter(room.name, { id, metadata }),
              Effect.suspend(() => isIn() ? Effect.void : broker.leave(room.name, id))
            )
            : Effect.void)
      // Before the others see it: who cannot have all that was missed does not come in.
      const missed = from === undefined ? undefined : yield* missedSince(room, local, from)
      yield* update(metadata as Metadata)
      yield* Deferred.await(member.entered)
      if (member.catchesUp && missed !== undefined) yield* catchUp(room, local, member, missed)
      return { id, position: Option.fromUndefinedOr(member.position), update }
    })

    return Rooms.of({
      join: Effect.fnUntraced(function*(room, connection, options = {}) {
        const scope = yield* Scope.fork(yield* Effect.scope)
        const id = RoomBroker.newId(random)
        const entered = yield* enter(room, connection, options, id).pipe(
          Scope.provide(scope),
          Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
        )
        return { ...entered, leave: Scope.close(scope, Exit.void) }
      }),
      publish: (room, value, { except, overflow = room.overflow } = {}) =>
        Effect.flatMap(room.encode(value), (message) =>
          broker.publish(room.name, {
            message,
            except: except && open.get(room.name)?.members.get(except)?.id,
            overflow
          }, room.history)),
      members: (room) => Effect.scoped(Effect.map(attach(room), ({ present }) => [...present.values()])),
      count: (room) => Effect.scoped(Effect.map(attach(room), ({ present }) => present.size)),
      presence: <Metadata>(room: Room<Metadata, never>) =>
        Stream.unwrap(
          Effect.flatMap(attach(room), (local) =>
            subscribe(local.presenceQueues, (queue) => Queue.offerUnsafe(queue, local.snapshot)))
        ),
      messages: (room) => Stream.unwrap(Effect.flatMap(attach(room), (local) => subscribe(local.messageQueues)))
    })
  })
)

/**
 * Provides rooms of this process alone.
 *
 * **Example** (A chat)
 *
 * ```ts
 * import { Room, Rooms, WebSocketServer } from "@effect-ws/core"
 * import { Effect, Layer, Stream } from "effect"
 *
 * const lobby = Room.make("lobby")
 *
 * const Chat = WebSocketServer.serve(Effect.fnUntraced(function*(connection) {
 *   const rooms = yield* Rooms.Rooms
 *   yield* rooms.join(lobby, connection)
 *   yield* Stream.runForEach(connection.messages, (message) => rooms.publish(lobby, message, { except: connection }))
 * })).pipe(Layer.provide(Rooms.layerMemory))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<Rooms> = Layer.provide(layer, RoomBroker.layerMemory)

// However full the queue is, a message of the past waits for room.
const sendWaiting = (
  connection: Connection,
  send: () => ReturnType<Connection["sendUnsafe"]>
): Effect.Effect<void, SendError> =>
  Effect.suspend(() => {
    const outcome = send()
    if (outcome === "NotOpen") return Effect.fail(new SendError({ reason: new ConnectionNotOpen({}) }))
    return outcome === "Full"
      ? Effect.andThen(roomIn(connection), sendWaiting(connection, send))
      : Effect.void
  })

// While a streamed message pauses, nothing may be queued, and still there is no room for one that is larger than the queue.
const roomIn = (connection: Connection): Effect.Effect<void, SendError> =>
  Effect.flatMap(connection.queuedBytes, (queued) => queued > 0 ? connection.drained : Effect.sleep("10 millis"))

const subscribe = <A>(queues: Set<Queue.Queue<A>>, onStart: (queue: Queue.Queue<A>) => void = () => {}) =>
  Effect.flatMap(Queue.unbounded<A>(), (queue) =>
    Effect.as(
      Effect.acquireRelease(
        Effect.sync(() => {
          queues.add(queue)
          onStart(queue)
        }),
        () => Effect.sync(() => queues.delete(queue))
      ),
      Stream.fromQueue(queue)
    ))
