/**
 * What a socket looks like to a connection.
 *
 * @since 0.1.0
 */

/**
 * One end of a socket.
 *
 * @category models
 * @since 0.1.0
 */
export type Address =
  | { readonly _tag: "Tcp"; readonly host: string; readonly port: number }
  | { readonly _tag: "Unix"; readonly path: string }

/**
 * What not every transport lets a connection do.
 *
 * **Details**
 *
 * | capability | what is missing without it |
 * |---|---|
 * | `"ControlFrames"` | `ping`, `sendPing` and `sendPong` fail with `Unsupported`; `controls` is empty, and there is no heartbeat |
 * | `"Fragments"` | `sendStream` fails with `Unsupported` |
 * | `"Backpressure"` | a slow consumer, or `pause`, does not slow the peer down: what arrives is kept, up to a bound |
 * | `"CloseCodes"` | only 1000 and 3000 to 4999 reach the peer as they are |
 * | `"Headers"` | `request` and `response` have no headers |
 * | `"Abort"` | `abort` gives the socket up at once, and leaves it to the platform to drop it |
 *
 * @category models
 * @since 0.1.0
 */
export type Capability = "ControlFrames" | "Fragments" | "Backpressure" | "CloseCodes" | "Headers" | "Abort"

/**
 * All capabilities: those of a transport that carries our frames as they are.
 *
 * @category constants
 * @since 0.1.0
 */
export const allCapabilities: ReadonlySet<Capability> = new Set<Capability>([
  "ControlFrames",
  "Fragments",
  "Backpressure",
  "CloseCodes",
  "Headers",
  "Abort"
])

/**
 * A byte duplex with demand: the contract between a connection and whatever carries its bytes.
 *
 * **When to use**
 *
 * To carry WebSocket connections over something new. `@effect-ws/node` implements it for Node's sockets,
 * `@effect-ws/test-kit` in memory.
 *
 * **Details**
 *
 * The calls are plain functions because a read must reach the reader without a hop; they never throw.
 *
 * - `start` is called once, first. Data flows from then on, until `pause`.
 * - `pause` and `resume` govern `onData`; a few chunks may still arrive after `pause`. The end of the peer's data is told
 *   only after all of it.
 * - `write` returns true if the bytes were taken whole and the chunks may be overwritten; otherwise the transport goes on
 *   reading them, `onDrain` tells when it is done, and no further `write` comes before that.
 * - `end` sends what was written, then the end of our data. `destroy` drops everything at once. Both may be repeated.
 * - `onClose` comes exactly once, last, on every path: after both ends, after `destroy`, after a failure.
 * - `capabilities` tell what it lets a connection do. Without `"Backpressure"`, data goes on arriving after `pause`; the
 *   transport keeps it, up to a bound, and tells by `onOverrun` that from now on it drops everything.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transport {
  readonly peerAddress: Address | undefined
  readonly localAddress: Address | undefined
  readonly capabilities: ReadonlySet<Capability>
  readonly start: (handler: TransportHandler) => void
  readonly pause: () => void
  readonly resume: () => void
  readonly write: (chunks: ReadonlyArray<Uint8Array>) => boolean
  readonly end: () => void
  readonly destroy: () => void
}

/**
 * What a transport tells its connection.
 *
 * **Details**
 *
 * The bytes of `onData` are lent for the length of the call, and the connection may overwrite them. None of these
 * functions throws.
 *
 * `target` spares large messages a copy: a transport that chooses where it reads to may ask for it after each `onData`, and
 * read the next bytes there, no more than fit. Their `onData` is given the part that was filled, and only that.
 *
 * @category models
 * @since 0.1.0
 */
export interface TransportHandler {
  readonly onData: (chunk: Uint8Array) => void
  readonly target?: () => Uint8Array | undefined
  readonly onDrain: () => void
  readonly onOverrun: () => void
  readonly onEnd: () => void
  readonly onClose: (cause: unknown) => void
}
