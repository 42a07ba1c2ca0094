/** `ws`, as its README writes an echo server, a broadcast and a heartbeat. */
import { createServer } from "node:http"
import { createServer as createSecureServer } from "node:https"
import type { AddressInfo } from "node:net"
import { WebSocket, WebSocketServer } from "ws"
import { announce, settings } from "../control.ts"

const { broadcast, deflate, heartbeatMillis, maxMessageBytes, rooms, tls } = settings
const noTakeover = { serverNoContextTakeover: true, clientNoContextTakeover: true }

const http = (tls === undefined ? createServer() : createSecureServer(tls)).listen(0, "127.0.0.1")

const server = new WebSocketServer({
  server: http,
  perMessageDeflate: deflate !== undefined && (deflate === "context takeover" || noTakeover),
  ...(maxMessageBytes === undefined ? {} : { maxPayload: maxMessageBytes })
})

server.on("listening", () => announce((http.address() as AddressInfo).port))

const members = Array.from({ length: rooms ?? 0 }, () => new Set<WebSocket>())
let joined = 0

if (rooms !== undefined) {
  server.on("connection", (socket) => {
    const room = members[joined++ % rooms]!
    room.add(socket)
    socket.on("close", () => room.delete(socket))
    socket.on("message", (data, binary) => {
      for (const member of room) {
        if (member.readyState === WebSocket.OPEN) member.send(data, { binary })
      }
    })
  })
}

server.on("connection", (socket) => {
  socket.on("error", () => {})
  if (rooms !== undefined) return
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
