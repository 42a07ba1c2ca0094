/**
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export * as TestPeer from "./TestPeer.ts"

/**
 * @since 0.1.0
 */
export * as TestTransport from "./TestTransport.ts"
