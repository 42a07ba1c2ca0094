/**
 * As `net`, but reading into one shared buffer through `onread`, past the machinery of streams. `onread` is not for accepted
 * sockets, so this takes their handles over: a limit to compare with, no way to write a server.
 */
import { type AddressInfo, createServer, Socket, type SocketConstructorOpts } from "node:net"
import { announce, settings } from "../control.ts"
import { switchingProtocols } from "./handshake.ts"

const sockets = new Set<Socket>()
const buffer = Buffer.allocUnsafeSlow(64 * 1024)

const server = createServer({ pauseOnConnect: true }, (accepted) => {
  let isOpen = false
  const { _handle: handle } = accepted as unknown as { _handle: unknown }
  const options = {
    handle,
    onread: {
      buffer,
      callback: (length: number) => {
        // A write goes on reading its chunk, and the next read overwrites the buffer.
        const chunk = Buffer.from(buffer.subarray(0, length))
        if (!isOpen) {
          isOpen = true
          sockets.add(socket)
          socket.write(switchingProtocols(chunk))
        } else if (!settings.broadcast) {
          socket.write(chunk)
        } else {
          for (const other of sockets) other.write(chunk)
        }
        return true
      }
    }
  }
  const socket = new Socket(options as unknown as SocketConstructorOpts)
  socket.setNoDelay(true)
  socket.on("error", () => {})
  socket.on("close", () => sockets.delete(socket))
  socket.resume()
})

server.listen(0, "127.0.0.1", () => announce((server.address() as AddressInfo).port))
