/**
 * Sockets without a protocol that are read into one shared buffer through `onread`, past the machinery of streams. `onread` is
 * not for accepted sockets, so this takes their handles over: a limit to compare with, no way to write a server.
 */
import { type AddressInfo, createServer, Socket, type SocketConstructorOpts } from "node:net"
import { announce } from "../control.ts"
import { switchingProtocols } from "./handshake.ts"

const buffer = Buffer.allocUnsafeSlow(64 * 1024)

/** Serves; `open` is called behind the handshake, and gives what takes the bytes of the socket from then on. */
export const listen = (open: (socket: Socket) => (chunk: Buffer) => void): void => {
  const server = createServer({ pauseOnConnect: true }, (accepted) => {
    let take = (request: Buffer): void => {
      socket.write(switchingProtocols(request))
      take = open(socket)
    }
    const { _handle: handle } = accepted as unknown as { _handle: unknown }
    const options = {
      handle,
      onread: {
        buffer,
        callback: (length: number) => {
          // A write goes on reading its chunk, and the next read overwrites the buffer.
          take(Buffer.from(buffer.subarray(0, length)))
          return true
        }
      }
    }
    const socket = new Socket(options as unknown as SocketConstructorOpts)
    socket.setNoDelay(true)
    socket.on("error", () => {})
    socket.resume()
  })
  server.listen(0, "127.0.0.1", () => announce((server.address() as AddressInfo).port))
}
