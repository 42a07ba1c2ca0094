/**
 * How a connection ended.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * The end of a connection, as this side saw it.
 *
 * **Details**
 *
 * - `code` is the code of the peer's Close frame when the closing handshake completed; 1005 if that frame had no code; the
 *   code this side sent when it failed the connection (1002, 1007, 1008, 1009); 1006 when the connection was lost, aborted,
 *   or ended by a timeout (RFC 6455, sections 7.1.5 and 7.4.1).
 * - `reason` is the text that belongs to the code.
 * - `wasClean` tells whether both Close frames were exchanged (section 7.1.4).
 * - `initiator` is the side that began to end the connection.
 *
 * @category models
 * @since 0.1.0
 */
export class CloseEvent extends Schema.Class<CloseEvent>("@effect-ws/core/CloseEvent")({
  code: Schema.Int,
  reason: Schema.String,
  wasClean: Schema.Boolean,
  initiator: Schema.Literals(["Local", "Remote"])
}) {}

/**
 * Tells whether an end is an ordinary one: the peer closed with 1000 (normal), 1001 (going away) or without a code, or
 * this side closed the connection itself.
 *
 * @category guards
 * @since 0.1.0
 */
export const isNormal = ({ code, initiator }: CloseEvent): boolean =>
  initiator === "Local" || code === 1000 || code === 1001 || code === 1005
