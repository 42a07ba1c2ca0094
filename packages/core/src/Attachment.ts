/**
 * Data that belongs to one connection, under typed keys.
 *
 * @since 0.1.0
 */

/**
 * The key of an attachment of type `A`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attachment<in out A> {
  readonly name: string
  readonly _A?: (_: A) => A
}

/**
 * Makes a key. Keys are told apart by identity, so two keys of the same name do not clash; the name is for people.
 *
 * **Example** (Remembering who is connected)
 *
 * ```ts
 * import { Attachment, type Connection } from "@effect-ws/core"
 * import { Effect } from "effect"
 *
 * const User = Attachment.make<{ readonly name: string }>("User")
 *
 * const rename = (connection: Connection.Connection, name: string) =>
 *   Effect.andThen(connection.attach(User, { name }), connection.attachment(User))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A>(name: string): Attachment<A> => ({ name })
