/** Node's sockets without a protocol: after the handshake, the bytes go back as they came. */
import { connect } from "node:net"
import { settings } from "../control.ts"

const request = (port: number) =>
  `GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

for (let i = 0; i < (settings.connections ?? 1); i++) {
  const socket = connect(settings.port ?? 0, "127.0.0.1")
  socket.setNoDelay(true)
  socket.on("error", () => {})
  socket.write(request(settings.port ?? 0))
  socket.once("data", (chunk) => {
    const rest = chunk.subarray(chunk.indexOf("\r\n\r\n") + 4)
    if (rest.length > 0) socket.write(rest)
    socket.on("data", (chunk) => socket.write(chunk))
  })
}
