/** The answer to an opening handshake, for servers that know nothing else of WebSockets. */
import { createHash } from "node:crypto"

const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

export const switchingProtocols = (request: Uint8Array): string => {
  const key = /sec-websocket-key:\s*(\S+)/i.exec(Buffer.from(request).toString("latin1"))?.[1] ?? ""
  const accept = createHash("sha1").update(key + guid).digest("base64")
  return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
    `Sec-WebSocket-Accept: ${accept}\r\n\r\n`
}
