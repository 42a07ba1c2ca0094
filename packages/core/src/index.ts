/**
 * The platform-free part of effect-ws: connections, their protocol, and the services that make them.
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export * as Attachment from "./Attachment.ts"

/**
 * @since 0.1.0
 */
export * as BrowserWebSocketClient from "./BrowserWebSocketClient.ts"

/**
 * @since 0.1.0
 */
export * as CloseEvent from "./CloseEvent.ts"

/**
 * @since 0.1.0
 */
export * as Compression from "./Compression.ts"

/**
 * @since 0.1.0
 */
export * as Connection from "./Connection.ts"

/**
 * @since 0.1.0
 */
export * as ConnectionMetrics from "./ConnectionMetrics.ts"

/**
 * @since 0.1.0
 */
export * as EffectSocket from "./EffectSocket.ts"

/**
 * @since 0.1.0
 */
export * as HandshakeRequest from "./HandshakeRequest.ts"

/**
 * @since 0.1.0
 */
export * as Heartbeat from "./Heartbeat.ts"

/**
 * @since 0.1.0
 */
export * as Message from "./Message.ts"

/**
 * @since 0.1.0
 */
export * as MessageCodec from "./MessageCodec.ts"

/**
 * @since 0.1.0
 */
export * as Reconnect from "./Reconnect.ts"

/**
 * @since 0.1.0
 */
export * as Room from "./Room.ts"

/**
 * @since 0.1.0
 */
export * as RoomBroker from "./RoomBroker.ts"

/**
 * @since 0.1.0
 */
export * as RoomError from "./RoomError.ts"

/**
 * @since 0.1.0
 */
export * as Rooms from "./Rooms.ts"

/**
 * @since 0.1.0
 */
export * as ServerRuntime from "./ServerRuntime.ts"

/**
 * @since 0.1.0
 */
export * as TlsState from "./TlsState.ts"

/**
 * @since 0.1.0
 */
export * as Transport from "./Transport.ts"

/**
 * @since 0.1.0
 */
export * as TypedConnection from "./TypedConnection.ts"

/**
 * @since 0.1.0
 */
export * as WebSocketClient from "./WebSocketClient.ts"

/**
 * @since 0.1.0
 */
export * as WebSocketError from "./WebSocketError.ts"

/**
 * @since 0.1.0
 */
export * as WebSocketServer from "./WebSocketServer.ts"
