/** Clients of `ws` that send back what they get. */
import { WebSocket } from "ws"
import { settings } from "../control.ts"

for (let i = 0; i < (settings.connections ?? 1); i++) {
  const socket = new WebSocket(`ws://127.0.0.1:${settings.port}`, { perMessageDeflate: false })
  socket.on("error", () => {})
  socket.on("message", (data, binary) => socket.send(data, { binary }))
}
