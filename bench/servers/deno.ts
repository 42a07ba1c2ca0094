/** Deno's own server. */
import { announce, settings } from "../control.ts"

declare const Deno: {
  readonly serve: (
    options: {
      readonly port: number
      readonly hostname: string
      readonly onListen: (address: { readonly port: number }) => void
    },
    handler: (request: Request) => Response
  ) => void
  readonly upgradeWebSocket: (request: Request) => { readonly socket: WebSocket; readonly response: Response }
}

const sockets = new Set<WebSocket>()

Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: ({ port }) => announce(port) }, (request) => {
  const { response, socket } = Deno.upgradeWebSocket(request)
  socket.binaryType = "arraybuffer"
  if (settings.broadcast) {
    socket.addEventListener("open", () => sockets.add(socket))
    socket.addEventListener("close", () => sockets.delete(socket))
  }
  socket.addEventListener("message", ({ data }: MessageEvent<string | ArrayBuffer>) => {
    if (!settings.broadcast) return socket.send(data)
    for (const other of sockets) other.send(data)
  })
  return response
})
