/**
 * The ways in which rooms fail.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

const tag = "@effect-ws/core/RoomError"

/**
 * The broker is out of reach, or did not answer in time.
 *
 * **Gotchas**
 *
 * A message whose publish fails so was delivered either to all or to nobody: the answer may be what was lost.
 *
 * @category errors
 * @since 0.1.0
 */
export class BrokerUnavailable extends Schema.TaggedError<BrokerUnavailable>(`${tag}/BrokerUnavailable`)(
  "BrokerUnavailable",
  { cause: Schema.Defect() }
) {}

/**
 * The messages after a position are not all there any more: they were too many or are too old, the room was forgotten, or it
 * never had a history. The client has to get the present state in another way, and join without a position.
 *
 * @category errors
 * @since 0.1.0
 */
export class InsufficientHistory extends Schema.TaggedError<InsufficientHistory>(`${tag}/InsufficientHistory`)(
  "InsufficientHistory",
  {}
) {}

/**
 * The connection is in the room already.
 *
 * @category errors
 * @since 0.1.0
 */
export class AlreadyMember extends Schema.TaggedError<AlreadyMember>(`${tag}/AlreadyMember`)("AlreadyMember", {}) {}

/**
 * What was asked of a room did not happen.
 *
 * @category errors
 * @since 0.1.0
 */
export class RoomError extends Schema.TaggedError<RoomError>(`${tag}/RoomError`)("RoomError", {
  room: Schema.String,
  reason: Schema.Union([BrokerUnavailable, InsufficientHistory, AlreadyMember])
}) {
  override get message() {
    return `${this.reason._tag} (room ${this.room})`
  }
}
