/**
 * The chat with presence on Node.
 *
 *     npx node examples/presence/main.ts
 *
 * Any WebSocket client joins at ws://127.0.0.1:8080/presence?name=Ada.
 */
import { NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Layer } from "effect"
import { Presence, serverOptions } from "./Presence.ts"

Presence.pipe(
  Layer.provide(NodeWebSocketServer.layer({ ...serverOptions, port: 8080 })),
  Layer.launch,
  NodeRuntime.runMain
)
