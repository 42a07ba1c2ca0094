/**
 * What servers and clients count, published as Effect metrics.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import type { CloseEvent } from "./CloseEvent.ts"
import type { Compression } from "./Compression.ts"
import { type Place, Roster } from "./internal/roster.ts"
import type { Role } from "./protocol/Frame.ts"

/**
 * The metrics that servers and clients find when they are made, by role; `undefined`, the default, turns them off.
 *
 * @category references
 * @since 0.1.0
 */
export const CurrentConnectionMetrics = Context.Reference<((role: Role) => ConnectionMetrics) | undefined>(
  "@effect-ws/core/ConnectionMetrics/CurrentConnectionMetrics",
  { defaultValue: () => undefined }
)

/**
 * Turns metrics on for the servers and clients that the layer is provided to.
 *
 * **Details**
 *
 * | metric | type | attributes beside `role` | what it tells |
 * |---|---|---|---|
 * | `websocket_connections` | gauge | | connections that are open or closing |
 * | `websocket_handshakes_total` | counter | `outcome` | handshakes that were answered, see below |
 * | `websocket_messages_total` | counter | `direction` | whole messages, `received` or `sent` |
 * | `websocket_bytes_total` | counter | `direction` | bytes of frames, as they travel |
 * | `websocket_queued_messages` | gauge | | messages accepted and not yet handed to the socket |
 * | `websocket_queued_bytes` | gauge | | bytes of frames not yet handed to the socket |
 * | `websocket_compression_bytes_total` | counter | `direction`, `form` | what was compressed, `plain` and `compressed` |
 * | `websocket_compression_ratio` | gauge | `direction` | compressed bytes for each plain one, so far |
 * | `websocket_pings_lost_total` | counter | | connections given up because a heartbeat had no answer |
 * | `websocket_closes_total` | counter | `code` | ends of connections, as in `CloseEvent` |
 *
 * `role` is `server` or `client`. Of the codes that libraries and applications define, `code` tells only `3xxx` and `4xxx`.
 * The `outcome` of a handshake is `accepted`, or why it failed. On a client, that is the tag of the `ConnectError`'s reason;
 * on a server it is one of these:
 *
 * - `malformed`: it breaks RFC 6455 or has too many headers
 * - `origin`: its page is of another origin
 * - `unserved`: nobody serves its path, or the server stops
 * - `rejected`: the hook rejected it
 * - `timeout`: the hook took too long
 * - `failed`: the hook died
 * - `lost`: the client went away before the answer, or the server stopped
 *
 * A message that a broadcast sends to many counts for each of them, and is compressed once.
 *
 * Connections add to plain numbers, once for each read and each write; the metrics are computed when the registry is read.
 * When the layer is released, they leave it.
 *
 * **Gotchas**
 *
 * Several such layers in one registry need attributes of their own (`Metric.CurrentMetricAttributes`), or the last one
 * hides the others. Effect builds a layer once for everything in an `Effect.provide`, so this is about programs that are
 * put together from several.
 *
 * **Example** (A server with metrics)
 *
 * ```ts
 * import { ConnectionMetrics, WebSocketServer } from "@effect-ws/core"
 * import { NodeWebSocketServer } from "@effect-ws/node"
 * import { Layer, Stream } from "effect"
 *
 * const Echo = WebSocketServer.serve((connection) =>
 *   Stream.runForEach(connection.messages, (message) => connection.send(message))
 * ).pipe(Layer.provide(NodeWebSocketServer.layer({ port: 8080 })), Layer.provide(ConnectionMetrics.layer))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<never> = Layer.effect(
  CurrentConnectionMetrics,
  Effect.gen(function*() {
    const context = yield* Effect.context<never>()
    const byRole = new Map<Role, ConnectionMetrics>()
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const metrics of byRole.values()) metrics.remove()
      })
    )
    return (role: Role) => {
      let metrics = byRole.get(role)
      if (metrics === undefined) byRole.set(role, metrics = new ConnectionMetrics(role, context))
      return metrics
    }
  })
)

/**
 * A connection as its metrics see it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member {
  readonly sending: { readonly queuedMessages: number; readonly queuedBytes: number }
}

/**
 * What all connections of one role count, and the series that tell it.
 *
 * @category models
 * @since 0.1.0
 */
export class ConnectionMetrics {
  /** Whoever reads or writes adds to these. */
  receivedBytes = 0
  receivedMessages = 0
  sentBytes = 0
  sentMessages = 0

  private readonly members = new Roster<Member>()
  private readonly inflated = { plain: 0, compressed: 0 }
  private readonly deflated = { plain: 0, compressed: 0 }
  private pingsLost = 0
  // Those that there are once it has happened.
  private readonly occurrences = new Map<string, { count: number }>()
  private readonly role: Role
  private readonly context: Context.Context<never>
  private readonly registrations: Array<Metric.Registration> = []
  // A connection may outlive this, and still be the first of its kind.
  private isRemoved = false

  constructor(role: Role, context: Context.Context<never>) {
    this.role = role
    this.context = context
    this.gauge("websocket_connections", {}, () => this.members.size)
    this.counter("websocket_messages_total", { direction: "received" }, () => this.receivedMessages)
    this.counter("websocket_messages_total", { direction: "sent" }, () => this.sentMessages)
    this.counter("websocket_bytes_total", { direction: "received" }, () => this.receivedBytes)
    this.counter("websocket_bytes_total", { direction: "sent" }, () => this.sentBytes)
    this.gauge("websocket_queued_messages", {}, () => this.sum(({ sending }) => sending.queuedMessages))
    this.gauge("websocket_queued_bytes", {}, () => this.sum(({ sending }) => sending.queuedBytes))
    for (const [direction, bytes] of [["received", this.inflated], ["sent", this.deflated]] as const) {
      for (const form of ["plain", "compressed"] as const) {
        this.counter("websocket_compression_bytes_total", { direction, form }, () => bytes[form])
      }
      this.gauge(
        "websocket_compression_ratio",
        { direction },
        () => bytes.plain === 0 ? 1 : bytes.compressed / bytes.plain
      )
    }
    this.counter("websocket_pings_lost_total", {}, () => this.pingsLost)
  }

  /** Counts a handshake by its outcome. */
  handshake(outcome: string): void {
    this.occurred("websocket_handshakes_total", "outcome", outcome)
  }

  /** Counts a connection from now on, until its end is counted. */
  opened(member: Member): Place {
    return this.members.add(member)
  }

  /** Counts the end of a connection; `pingLost` if the heartbeat gave it up. */
  closed(place: Place, { code }: CloseEvent, pingLost: boolean): void {
    this.members.remove(place)
    if (pingLost) this.pingsLost++
    // Which of these 2,000 it is, is up to the peer, and each would be a series.
    this.occurred("websocket_closes_total", "code", code < 3000 ? String(code) : code < 4000 ? "3xxx" : "4xxx")
  }

  /** Counts what goes through a compression. */
  compression({ deflate, inflate }: Compression): Compression {
    return {
      deflate: (bytes, options) => {
        const compressed = deflate(bytes, options)
        this.deflated.plain += bytes.length
        this.deflated.compressed += compressed.length
        return compressed
      },
      inflate: (bytes, options) => {
        const plain = inflate(bytes, options)
        if (typeof plain === "string") return plain
        this.inflated.plain += plain.length
        this.inflated.compressed += bytes.length
        return plain
      }
    }
  }

  /** Takes all series out of the registry. */
  remove(): void {
    this.isRemoved = true
    for (const registration of this.registrations) registration.remove()
  }

  private sum(of: (member: Member) => number): number {
    let sum = 0
    this.members.forEach((member) => {
      sum += of(member)
    })
    return sum
  }

  private occurred(id: Id, attribute: string, value: string): void {
    const key = `${id} ${value}`
    let occurrences = this.occurrences.get(key)
    if (occurrences === undefined) {
      const series = { count: 0 }
      this.occurrences.set(key, occurrences = series)
      this.counter(id, { [attribute]: value }, () => series.count)
    }
    occurrences.count++
  }

  private counter(id: Id, attributes: Metric.Metric.AttributeSet, count: () => number): void {
    const metric = Metric.counter(id, {
      description: descriptions[id],
      attributes: { role: this.role, ...attributes },
      incremental: true
    })
    this.register(metric, () => ({ count: count(), incremental: true }))
  }

  private gauge(id: Id, attributes: Metric.Metric.AttributeSet, value: () => number): void {
    const metric = Metric.gauge(id, {
      description: descriptions[id],
      attributes: { role: this.role, ...attributes }
    })
    this.register(metric, () => ({ value: value() }))
  }

  private register<State>(metric: Metric.Metric<number, State>, get: () => State): void {
    if (this.isRemoved) return
    this.registrations.push(Metric.registerUnsafe(metric, this.context, { get, update: () => {}, modify: () => {} }))
  }
}

type Id = keyof typeof descriptions

const descriptions = {
  websocket_connections: "Connections that are open or closing",
  websocket_handshakes_total: "Handshakes by their outcome",
  websocket_messages_total: "Whole messages",
  websocket_bytes_total: "Bytes of frames, as they travel",
  websocket_queued_messages: "Messages accepted and not yet handed to the socket",
  websocket_queued_bytes: "Bytes of frames not yet handed to the socket",
  websocket_compression_bytes_total: "Bytes that were compressed or inflated, in both forms",
  websocket_compression_ratio: "Compressed bytes for each plain one",
  websocket_pings_lost_total: "Connections given up because a heartbeat had no answer",
  websocket_closes_total: "Ends of connections by close code"
}
