/** Node's sockets without a protocol: what no WebSocket server on them can surpass. The bytes go back as they came. */
import { type AddressInfo, createServer, type Socket } from "node:net"
import { createServer as createSecureServer } from "node:tls"
import { announce, settings } from "../control.ts"
import { switchingProtocols } from "./handshake.ts"

const sockets = new Set<Socket>()

const onSocket = (socket: Socket): void => {
  socket.setNoDelay(true)
  socket.on("error", () => {})
  socket.on("close", () => sockets.delete(socket))
  socket.once("data", (request) => {
    socket.write(switchingProtocols(request))
    sockets.add(socket)
    socket.on("data", (chunk) => {
      if (!settings.broadcast) return socket.write(chunk)
      for (const other of sockets) other.write(chunk)
    })
  })
}

const { tls } = settings
const server = tls === undefined ? createServer(onSocket) : createSecureServer(tls, onSocket)

server.listen(0, "127.0.0.1", () => announce((server.address() as AddressInfo).port))
