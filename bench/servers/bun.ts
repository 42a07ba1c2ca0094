/** Bun's own server. */
import { announce, settings } from "../control.ts"

interface BunSocket {
  readonly subscribe: (topic: string) => void
  readonly send: (message: string | Uint8Array) => void
}

interface BunServer {
  readonly port: number
  readonly upgrade: (request: Request) => boolean
  readonly publish: (topic: string, message: string | Uint8Array) => void
}

declare const Bun: {
  readonly serve: (options: {
    readonly port: number
    readonly hostname: string
    readonly fetch: (request: Request, server: BunServer) => Response | undefined
    readonly websocket: {
      readonly maxPayloadLength: number
      readonly open: (socket: BunSocket) => void
      readonly message: (socket: BunSocket, message: string | Uint8Array) => void
    }
  }) => BunServer
}

const server: BunServer = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch: (request, server) => server.upgrade(request) ? undefined : new Response("", { status: 426 }),
  websocket: {
    maxPayloadLength: settings.maxMessageBytes ?? 16 * 1024 * 1024,
    open: (socket) => {
      if (settings.broadcast) socket.subscribe("all")
    },
    message: (socket, message) => {
      if (settings.broadcast) server.publish("all", message)
      else socket.send(message)
    }
  }
})

announce(server.port)
