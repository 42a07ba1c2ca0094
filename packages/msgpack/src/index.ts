/**
 * Messages in MessagePack.
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export * as MessagePack from "./MessagePack.ts"
