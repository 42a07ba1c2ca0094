/** `ws`, as its README writes an echo server, a broadcast and a heartbeat. */
import type { AddressInfo } from "node:net"
import { WebSocket, WebSocketServer } from "ws"
import { announce, settings } from "../control.ts"

const { broadcast, heartbeatMillis, maxMessageBytes } = settings

const server = new WebSocketServer({
  port: 0,
  host: "127.0.0.1",
  ...(maxMessageBytes === undefined ? {} : { maxPayload: maxMessageBytes })
})

server.on("listening", () => announce((server.address() as AddressInfo).port))

server.on("connection", (socket) => {
  socket.on("error", () => {})
  socket.on("message", (data, binary) => {
    if (!broadcast) return socket.send(data, { binary })
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary })
    }
  })
})

if (heartbeatMillis !== undefined) {
  const alive = new WeakSet<WebSocket>()
  server.on("connection", (socket) => {
    alive.add(socket)
    socket.on("pong", () => alive.add(socket))
  })
  setInterval(() => {
    for (const socket of server.clients) {
      if (!alive.delete(socket)) socket.terminate()
      else socket.ping()
    }
  }, heartbeatMillis)
}
