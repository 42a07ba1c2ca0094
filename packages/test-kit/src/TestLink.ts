/**
 * A link between two transports in memory, and the ways in which it can misbehave.
 *
 * @since 0.1.0
 */
import type { Transport } from "@effect-ws/core/Transport"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { Link, type LinkContext } from "./internal/link.ts"

/**
 * How one direction of a link carries bytes.
 *
 * **Details**
 *
 * | property | default | meaning |
 * |---|---|---|
 * | `latency` | 0 | how long a byte travels |
 * | `jitter` | 0 | at most how much longer, by chance; the order is kept |
 * | `bytesPerSecond` | unlimited | the bandwidth |
 * | `bufferBytes` | 64 KiB | what may be on its way, or unread, before the writer has to wait; with 0, every write waits |
 * | `chunkBytes` | what was written at once | the longest chunk that is delivered at once; a range is drawn from by chance |
 * | `flow` | `"open"` | `"stalled"`: nothing is delivered, as if the reader did not read. `"cut"`: nothing passes at all, not even the news that the other end is gone |
 * | `swallow` | none | the opcodes of frames that vanish on the way, such as `Opcode.pong` |
 * | `corrupt` | 0 | the chance that a bit of a chunk is flipped |
 * | `duplicate` | 0 | the chance that a chunk arrives twice |
 * | `truncate` | 0 | the chance that the last bytes of a chunk are lost |
 * | `resetAfter` | never | the link is reset when so many more bytes have been delivered: in the middle of a frame, if that is where they end |
 *
 * A link that is cut in both directions and never opened again is half-open: the peer has vanished without a byte. All links
 * cut and later opened are a partition that heals; what was sent meanwhile arrives then, as TCP repeats it.
 *
 * With `stalled` and a `bufferBytes` of 0, writes stall too.
 *
 * @category models
 * @since 0.1.0
 */
export interface Behaviour {
  readonly latency: Duration.Input
  readonly jitter: Duration.Input
  readonly bytesPerSecond: number
  readonly bufferBytes: number
  readonly chunkBytes: number | { readonly min: number; readonly max: number }
  readonly flow: "open" | "stalled" | "cut"
  readonly swallow: ReadonlyArray<number>
  readonly corrupt: number
  readonly duplicate: number
  readonly truncate: number
  readonly resetAfter: number
}

/**
 * The two directions of a link.
 *
 * @category models
 * @since 0.1.0
 */
export type Direction = "toServer" | "toClient"

/**
 * A link: its two ends, and control over what happens between them.
 *
 * **Details**
 *
 * - `set` changes the behaviour, in one direction or both, from now on; what it does not name stays as it is.
 * - `inTransit` are the bytes that were written and not yet delivered.
 * - `reset` breaks the link: both ends are closed at once, with an error.
 * - `isOver` tells whether both ends are closed.
 *
 * @category models
 * @since 0.1.0
 */
export interface TestLink {
  readonly client: Transport
  readonly server: Transport
  readonly set: (behaviour: Partial<Behaviour>, direction?: Direction) => Effect.Effect<void>
  readonly inTransit: (direction: Direction) => Effect.Effect<number>
  readonly reset: Effect.Effect<void>
  readonly isOver: Effect.Effect<boolean>
}

/**
 * The behaviour of a link that does nothing but carry bytes, at once.
 *
 * @category models
 * @since 0.1.0
 */
export const perfect: Behaviour = {
  latency: 0,
  jitter: 0,
  bytesPerSecond: Infinity,
  bufferBytes: 64 * 1024,
  chunkBytes: Infinity,
  flow: "open",
  swallow: [],
  corrupt: 0,
  duplicate: 0,
  truncate: 0,
  resetAfter: Infinity
}

/**
 * Makes a link. When the scope closes, it is reset.
 *
 * **When to use**
 *
 * To test what is made from a `Transport`, below the handshake. To test servers and clients, use `TestNetwork`.
 *
 * **Details**
 *
 * Time is the `Clock`'s, chance is that of `Random`: under a `TestClock` and `Random.withSeed`, everything that happens is
 * determined. Without latency, jitter and bandwidth, bytes are delivered in a microtask, and no time passes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (options?: Partial<Behaviour>) => Effect.Effect<TestLink, never, Scope.Scope> = Effect.fnUntraced(
  function*(options = {}) {
    const context: LinkContext = {
      clock: yield* Clock.Clock,
      random: yield* Random.Random,
      runFork: Effect.runForkWith(yield* Effect.context<never>()),
      traffic: 0
    }
    const behaviour = { ...perfect, ...options }
    const link = new Link(context, { toServer: behaviour, toClient: behaviour }, {
      client: undefined,
      server: undefined
    })
    yield* Effect.addFinalizer(() => link.handle.reset)
    return link.handle
  }
)
