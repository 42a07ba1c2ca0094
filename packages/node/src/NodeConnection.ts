/**
 * Connections over Node's sockets whose handshake is done.
 *
 * @since 0.1.0
 */
import * as Connection from "@effect-ws/core/Connection"
import { CurrentConnectionMetrics } from "@effect-ws/core/ConnectionMetrics"
import * as Heartbeat from "@effect-ws/core/Heartbeat"
import type { Role } from "@effect-ws/core/protocol/Frame"
import * as Mask from "@effect-ws/core/protocol/Mask"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomFillSync } from "node:crypto"
import type { Duplex } from "node:stream"
import * as NodeTransport from "./NodeTransport.ts"
import * as NodeUtf8 from "./NodeUtf8.ts"

/**
 * What is known of a socket whose handshake is done, beside the limits and policies of its connection.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `role` | | which side we are |
 * | `initialData` | none | bytes that were read behind the handshake |
 * | `subprotocol` | none | what the handshake settled |
 * | `request` | `{ url: "/", headers: {} }` | the opening request, for `connection.request` |
 * | `heartbeat` | 20 s and 20 s | when a silent peer is pinged and dropped; `false` turns it off |
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Connection.ConnectionOptions {
  readonly role: Role
  readonly initialData?: Uint8Array | undefined
  readonly subprotocol?: string | undefined
  readonly request?: Connection.HandshakeResult["request"] | undefined
  readonly heartbeat?: Heartbeat.Options | false | undefined
}

/**
 * Makes a connection of a socket, or any duplex stream, whose opening handshake somebody else has done.
 *
 * **Details**
 *
 * The handshake has to have settled on no extension. The connection lives in the scope and is closed with it, as
 * `Connection.make` says; nothing else may use the socket any more.
 *
 * **Example** (After a handshake by hand)
 *
 * ```ts
 * import { NodeConnection } from "@effect-ws/node"
 * import { Effect, Stream } from "effect"
 * import type { Duplex } from "node:stream"
 *
 * const echo = Effect.fnUntraced(function*(socket: Duplex, head: Buffer) {
 *   const connection = yield* NodeConnection.fromUpgraded(socket, { role: "server", initialData: head })
 *   yield* Stream.runForEach(connection.messages, (message) => connection.send(message))
 * }, Effect.scoped)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromUpgraded: (
  socket: Duplex,
  options: Options
) => Effect.Effect<Connection.Connection, never, Scope.Scope> = Effect.fnUntraced(function*(socket, options) {
  const { heartbeat, initialData, request, role, subprotocol } = options
  const transport = NodeTransport.fromSocket(socket, initialData)
  const settings = yield* Connection.settings({
    ...options,
    heartbeat: heartbeat === false ? undefined : yield* Heartbeat.make(heartbeat),
    maskKey: role === "client" ? Mask.keysFrom(randomFillSync) : undefined,
    utf8: NodeUtf8.codec,
    metrics: (yield* CurrentConnectionMetrics)?.(role)
  })
  return yield* Connection.make(transport, settings, {
    handshake: {
      subprotocol,
      extensions: [],
      request: request ?? { url: "/", headers: {} },
      response: { status: 101, headers: {} }
    }
  })
})
