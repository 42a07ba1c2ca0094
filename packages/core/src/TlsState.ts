/**
 * What TLS has settled about a connection, as a server's handshake hook sees it.
 *
 * @since 0.1.0
 */

/**
 * The TLS session that a request came over.
 *
 * **Details**
 *
 * `version` is the protocol's, such as `TLSv1.3`.
 *
 * @category models
 * @since 0.1.0
 */
export interface TlsState {
  readonly version: string
  readonly peer: TlsPeer
}

/**
 * Who is on the other side, as far as TLS can tell.
 *
 * **Details**
 *
 * - `Anonymous`: the peer has shown no certificate, or was not asked for one.
 * - `Authorized`: its certificate is valid, and issued by an authority that this side trusts.
 * - `Unauthorized`: it has shown a certificate that is not to be trusted; `reason` tells why, such as
 *   `CERT_HAS_EXPIRED`.
 *
 * @category models
 * @since 0.1.0
 */
export type TlsPeer =
  | { readonly _tag: "Anonymous" }
  | { readonly _tag: "Authorized"; readonly certificate: PeerCertificate }
  | { readonly _tag: "Unauthorized"; readonly certificate: PeerCertificate; readonly reason: string }

/**
 * The certificate that a peer has shown (RFC 5280).
 *
 * **Details**
 *
 * `subject` and `issuer` map the attributes of a name, such as `CN` and `O`, to their values: to an array where there
 * are several. None of them need be there. `fingerprint` is the SHA-256 of the certificate, in upper-case hexadecimal
 * with colons. `raw` is the certificate itself in DER.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerCertificate {
  readonly subject: DistinguishedName
  readonly issuer: DistinguishedName
  readonly validFrom: Date
  readonly validTo: Date
  readonly fingerprint: string
  readonly raw: Uint8Array
}

/**
 * The name of a certificate's subject or issuer, by attribute.
 *
 * @category models
 * @since 0.1.0
 */
export type DistinguishedName = Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
