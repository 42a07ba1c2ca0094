/** As `net`, but read through `onread`. */
import type { Socket } from "node:net"
import { settings } from "../control.ts"
import { listen } from "./onread.ts"

const sockets = new Set<Socket>()

listen((socket) => {
  sockets.add(socket)
  socket.on("close", () => sockets.delete(socket))
  return (chunk) => {
    if (!settings.broadcast) return void socket.write(chunk)
    for (const other of sockets) other.write(chunk)
  }
})
