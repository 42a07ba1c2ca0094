/**
 * effect-ws on Node: servers and clients as layers.
 *
 * `NodeWebSocketRoute` is imported by its own path, `@effect-ws/node/NodeWebSocketRoute`, as it needs
 * `@effect/platform-node`, which nothing else here does.
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export * as NodeCompression from "./NodeCompression.ts"

/**
 * @since 0.1.0
 */
export * as NodeConnection from "./NodeConnection.ts"

/**
 * @since 0.1.0
 */
export * as NodeProxy from "./NodeProxy.ts"

/**
 * @since 0.1.0
 */
export * as NodeTls from "./NodeTls.ts"

/**
 * @since 0.1.0
 */
export * as NodeTransport from "./NodeTransport.ts"

/**
 * @since 0.1.0
 */
export * as NodeUtf8 from "./NodeUtf8.ts"

/**
 * @since 0.1.0
 */
export * as NodeWebSocketAdopter from "./NodeWebSocketAdopter.ts"

/**
 * @since 0.1.0
 */
export * as NodeWebSocketClient from "./NodeWebSocketClient.ts"

/**
 * @since 0.1.0
 */
export * as NodeWebSocketServer from "./NodeWebSocketServer.ts"
