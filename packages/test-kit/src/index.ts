/**
 * WebSocket programs tested without ports, in virtual time.
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export * as ClientHandshakeConformance from "./ClientHandshakeConformance.ts"

/**
 * @since 0.1.0
 */
export * as ClientHandshakeRule from "./ClientHandshakeRule.ts"

/**
 * @since 0.1.0
 */
export * as Conformance from "./Conformance.ts"

/**
 * @since 0.1.0
 */
export * as ConformanceRule from "./ConformanceRule.ts"

/**
 * @since 0.1.0
 */
export * as HandshakeConformance from "./HandshakeConformance.ts"

/**
 * @since 0.1.0
 */
export * as HandshakeRule from "./HandshakeRule.ts"

/**
 * @since 0.1.0
 */
export * as LeakGuard from "./LeakGuard.ts"

/**
 * @since 0.1.0
 */
export * as Scenario from "./Scenario.ts"

/**
 * @since 0.1.0
 */
export * as Simulation from "./Simulation.ts"

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
export * as Transcript from "./Transcript.ts"

/**
 * @since 0.1.0
 */
export * as VirtualTime from "./VirtualTime.ts"

/**
 * @since 0.1.0
 */
export * as WebSocketProbe from "./WebSocketProbe.ts"

/**
 * @since 0.1.0
 */
export * as Wire from "./Wire.ts"

/**
 * @since 0.1.0
 */
export * as WireArbitrary from "./WireArbitrary.ts"
