/**
 * What a server's connection keeps of its handshake.
 *
 * @since 0.1.0
 */
import type { HandshakeResult } from "../Connection.ts"
import type { Extension } from "../protocol/ExtensionHeader.ts"
import * as Handshake from "../protocol/Handshake.ts"

/** What the answers of a server have in common. */
export interface Answering {
  readonly sha1: Handshake.Sha1
  readonly headers: Handshake.ResponseHeaders
}

/**
 * An accepted handshake. Few handlers look at the response, and an idle connection would hold it all the time. So it is made
 * from its parts, once for the peer and again for whoever asks.
 */
export class ServerHandshake implements HandshakeResult {
  readonly subprotocol: string | undefined
  readonly extensions: ReadonlyArray<Extension>
  private readonly answering: Answering
  private readonly url: string
  private readonly headers: Handshake.Headers
  private readonly key: string
  private readonly added: Handshake.ResponseHeaders | undefined

  constructor(answering: Answering, parts: {
    readonly request: HandshakeResult["request"]
    readonly key: string
    readonly subprotocol: string | undefined
    readonly extensions: ReadonlyArray<Extension>
    readonly headers: Handshake.ResponseHeaders | undefined
  }) {
    this.answering = answering
    this.subprotocol = parts.subprotocol
    this.extensions = parts.extensions
    this.url = parts.request.url
    this.headers = parts.request.headers
    this.key = parts.key
    this.added = parts.headers
  }

  get request(): HandshakeResult["request"] {
    return { url: this.url, headers: this.headers }
  }

  get response(): HandshakeResult["response"] {
    return { status: 101, headers: Handshake.joinHeaders(this.responseHeaders) }
  }

  /** The headers as they are sent. */
  get responseHeaders(): Handshake.ResponseHeaders {
    const { added, answering, extensions, key, subprotocol } = this
    return Handshake.responseHeaders({
      key,
      sha1: answering.sha1,
      subprotocol,
      extensions,
      headers: { ...answering.headers, ...added }
    })
  }
}
