/**
 * What servers and clients on Node have in common about TLS, which is Node's own.
 *
 * @since 0.1.0
 */
import type { DistinguishedName, PeerCertificate, TlsPeer, TlsState } from "@effect-ws/core/TlsState"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { X509Certificate } from "node:crypto"
import type { Socket } from "node:net"
import * as Tls from "node:tls"

/**
 * The TLS options cannot be used: a certificate is malformed, or without its key, or the key is that of another one.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidCertificate extends Schema.TaggedError<InvalidCertificate>(
  "@effect-ws/node/NodeTls/InvalidCertificate"
)("InvalidCertificate", { detail: Schema.String, cause: Schema.Defect() }) {
  override get message() {
    return this.detail
  }
}

/**
 * Makes a secure context, once for all connections that use it.
 *
 * **Details**
 *
 * What Node itself would find out only during a handshake, or never, is an error too: a certificate without a key, a
 * key without a certificate, an authority (`ca`) that is not a certificate.
 *
 * @category constructors
 * @since 0.1.0
 */
export const secureContext = (
  options: Tls.SecureContextOptions
): Effect.Effect<Tls.SecureContext, InvalidCertificate> =>
  Effect.try({
    try: () => {
      const { ca = [], cert, key } = options
      if (isGiven(cert) && !isGiven(key)) throw new Error("a certificate without its key")
      if (isGiven(key) && !isGiven(cert)) throw new Error("a key without its certificate")
      // Node would pass over what it cannot read.
      const authorities = [ca].flat()
      authorities.forEach((authority) => new X509Certificate(authority))
      return Tls.createSecureContext(options)
    },
    catch: (cause) => new InvalidCertificate({ detail: cause instanceof Error ? cause.message : String(cause), cause })
  })

// Node passes over what is empty.
const isGiven = (option: { readonly length: number } | undefined): boolean => option !== undefined && option.length > 0

/**
 * What TLS has settled about a socket; `undefined` for a socket without TLS.
 *
 * @category models
 * @since 0.1.0
 */
export const stateOf = (socket: Socket): TlsState | undefined =>
  socket instanceof Tls.TLSSocket ? { version: socket.getProtocol() ?? "", peer: peerOf(socket) } : undefined

const peerOf = (socket: Tls.TLSSocket): TlsPeer => {
  const shown = socket.getPeerX509Certificate()
  if (shown === undefined) return { _tag: "Anonymous" }
  const certificate = certificateOf(shown)
  return socket.authorized
    ? { _tag: "Authorized", certificate }
    // A string, whatever its type says.
    : { _tag: "Unauthorized", certificate, reason: String(socket.authorizationError) }
}

const certificateOf = (shown: X509Certificate): PeerCertificate => {
  // This crashes Node if the public key cannot be read. That of a peer has been, in the handshake; the keys of the
  // certificates behind it need not have.
  const { issuer, subject } = shown.toLegacyObject()
  return {
    subject: subject as unknown as DistinguishedName,
    issuer: issuer as unknown as DistinguishedName,
    validFrom: shown.validFromDate,
    validTo: shown.validToDate,
    fingerprint: shown.fingerprint256,
    raw: new Uint8Array(shown.raw)
  }
}
