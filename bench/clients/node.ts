/** The WebSocket that Node has built in (Bun and Deno too), sending back what it gets. */
import { settings } from "../control.ts"

for (let i = 0; i < (settings.connections ?? 1); i++) {
  const socket = new WebSocket(`ws://127.0.0.1:${settings.port}`)
  socket.binaryType = "arraybuffer"
  socket.addEventListener("message", ({ data }: MessageEvent<string | ArrayBuffer>) => socket.send(data))
}
