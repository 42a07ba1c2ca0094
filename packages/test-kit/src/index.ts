/**
 * WebSocket programs tested without ports, in virtual time.
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export * as TestLink from "./TestLink.ts"

/**
 * @since 0.1.0
 */
export * as TestNetwork from "./TestNetwork.ts"

/**
 * @since 0.1.0
 */
export * as TestPeer from "./TestPeer.ts"

/**
 * @since 0.1.0
 */
export * as TestTransport from "./TestTransport.ts"

/**
 * @since 0.1.0
 */
export * as VirtualTime from "./VirtualTime.ts"
