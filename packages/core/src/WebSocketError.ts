/**
 * The ways in which connecting, receiving, decoding, sending and closing fail. Each error names its `reason` by tag.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { CloseEvent } from "./CloseEvent.ts"

const tag = "@effect-ws/core/WebSocketError"

// What a peer did wrong: the section of RFC 6455 that it broke, and how.
const violation = { section: Schema.String, detail: Schema.String }

/**
 * The peer closed the connection with a code other than 1000 or 1001; the code is in the error's `closeEvent`.
 *
 * @category errors
 * @since 0.1.0
 */
export class PeerClosed extends Schema.TaggedError<PeerClosed>(`${tag}/PeerClosed`)("PeerClosed", {}) {}

/**
 * The connection ended without a closing handshake (code 1006), and not by this side's doing: a reset, or an unexpected end.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectionLost extends Schema.TaggedError<ConnectionLost>(`${tag}/ConnectionLost`)("ConnectionLost", {
  cause: Schema.Defect()
}) {}

/**
 * The peer broke a rule of the protocol (RFC 6455); it was told 1002.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProtocolError extends Schema.TaggedError<ProtocolError>(`${tag}/ProtocolError`)(
  "ProtocolError",
  violation
) {}

/**
 * The peer sent text that is not UTF-8 (RFC 6455, section 8.1), or a compressed message that cannot be decompressed (RFC 7692,
 * section 7.2.2); it was told 1007.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidPayload extends Schema.TaggedError<InvalidPayload>(`${tag}/InvalidPayload`)(
  "InvalidPayload",
  violation
) {}

/**
 * The peer sent more than this side takes: a message too big (it was told 1009), or too many fragments or control frames
 * (1008).
 *
 * @category errors
 * @since 0.1.0
 */
export class LimitExceeded extends Schema.TaggedError<LimitExceeded>(`${tag}/LimitExceeded`)(
  "LimitExceeded",
  violation
) {}

/**
 * The peer did not answer a ping of the heartbeat in time, nor send anything else.
 *
 * @category errors
 * @since 0.1.0
 */
export class HeartbeatTimeout extends Schema.TaggedError<HeartbeatTimeout>(`${tag}/HeartbeatTimeout`)(
  "HeartbeatTimeout",
  {}
) {}

/**
 * The peer did not take what was sent, and the overflow policy closed the connection.
 *
 * @category errors
 * @since 0.1.0
 */
export class SlowConsumer extends Schema.TaggedError<SlowConsumer>(`${tag}/SlowConsumer`)("SlowConsumer", {}) {}

/**
 * Messages came faster than they were taken, over a transport that cannot be paused, such as that of a browser: more than
 * it keeps. The peer was told 1008.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReceiveOverflow extends Schema.TaggedError<ReceiveOverflow>(`${tag}/ReceiveOverflow`)(
  "ReceiveOverflow",
  {}
) {}

/**
 * A connection ended in a way that is not ordinary. `closeEvent` tells how it ended, `reason` why.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectionError extends Schema.TaggedError<ConnectionError>(`${tag}/ConnectionError`)("ConnectionError", {
  reason: Schema.Union([
    PeerClosed,
    ConnectionLost,
    ProtocolError,
    InvalidPayload,
    LimitExceeded,
    HeartbeatTimeout,
    SlowConsumer,
    ReceiveOverflow
  ]),
  closeEvent: CloseEvent
}) {
  override get message() {
    const { code, reason } = this.closeEvent
    const detail = "detail" in this.reason ? this.reason.detail : reason
    return `${this.reason._tag} (close code ${code})${detail === "" ? "" : `: ${detail}`}`
  }
}

/**
 * The connection is closing or closed: nothing more can be sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectionNotOpen extends Schema.TaggedError<ConnectionNotOpen>(`${tag}/ConnectionNotOpen`)(
  "ConnectionNotOpen",
  {}
) {}

/**
 * The outbound queue is full, and its overflow policy is to fail.
 *
 * @category errors
 * @since 0.1.0
 */
export class QueueFull extends Schema.TaggedError<QueueFull>(`${tag}/QueueFull`)("QueueFull", {
  queuedMessages: Schema.Int,
  queuedBytes: Schema.Int
}) {}

/**
 * The payload of a ping or pong is longer than the 125 bytes a control frame holds (RFC 6455, section 5.5).
 *
 * @category errors
 * @since 0.1.0
 */
export class ControlPayloadTooLong extends Schema.TaggedError<ControlPayloadTooLong>(`${tag}/ControlPayloadTooLong`)(
  "ControlPayloadTooLong",
  { bytes: Schema.Int }
) {}

/**
 * The platform has no way to do what was asked for. `feature` names the capability of the transport that is missing (see
 * `Connection.capabilities`), or the option of `connect` that cannot be honoured.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unsupported extends Schema.TaggedError<Unsupported>(`${tag}/Unsupported`)("Unsupported", {
  feature: Schema.String
}) {}

/**
 * Nothing was sent, or what was asked for did not happen before the connection ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class SendError extends Schema.TaggedError<SendError>(`${tag}/SendError`)("SendError", {
  reason: Schema.Union([ConnectionNotOpen, QueueFull, ControlPayloadTooLong, Unsupported])
}) {
  override get message() {
    return this.reason._tag
  }
}

/**
 * A text message came where messages are binary, or the reverse; `expected` is what they are.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnexpectedType extends Schema.TaggedError<UnexpectedType>(`${tag}/UnexpectedType`)("UnexpectedType", {
  expected: Schema.Literals(["Text", "Binary"])
}) {}

/**
 * A message is not of the format, such as JSON, that messages have.
 *
 * @category errors
 * @since 0.1.0
 */
export class Malformed extends Schema.TaggedError<Malformed>(`${tag}/Malformed`)("Malformed", {
  format: Schema.String
}) {}

/**
 * A value is not of the schema; `detail` tells where and what was expected, in at most 300 characters.
 *
 * @category errors
 * @since 0.1.0
 */
export class Mismatch extends Schema.TaggedError<Mismatch>(`${tag}/Mismatch`)("Mismatch", { detail: Schema.String }) {}

/**
 * The format, such as JSON, has no way to write a value; `detail` tells why, in at most 300 characters.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unrepresentable extends Schema.TaggedError<Unrepresentable>(`${tag}/Unrepresentable`)("Unrepresentable", {
  format: Schema.String,
  detail: Schema.String
}) {}

/**
 * A message that arrived does not decode to a value.
 *
 * **Details**
 *
 * `length` is that of the message, in characters of text or in bytes. The message itself is not kept: it is as large and
 * as odd as the peer likes.
 *
 * @category errors
 * @since 0.1.0
 */
export class DecodeError extends Schema.TaggedError<DecodeError>(`${tag}/DecodeError`)("DecodeError", {
  reason: Schema.Union([UnexpectedType, Malformed, Mismatch]),
  length: Schema.Int
}) {
  /** The code to close with (RFC 6455, section 7.4.1): 1003 for the wrong type of message, otherwise 1007. */
  get closeCode(): 1003 | 1007 {
    return this.reason._tag === "UnexpectedType" ? 1003 : 1007
  }
  override get message() {
    switch (this.reason._tag) {
      case "UnexpectedType":
        return `${this.reason.expected} was expected, and a message of the other type came`
      case "Malformed":
        return `the message is not ${this.reason.format}`
      case "Mismatch":
        return this.reason.detail
    }
  }
}

/**
 * A value cannot be made a message; nothing of it was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class EncodeError extends Schema.TaggedError<EncodeError>(`${tag}/EncodeError`)("EncodeError", {
  reason: Schema.Union([Mismatch, Unrepresentable])
}) {
  override get message() {
    const { reason } = this
    return reason._tag === "Mismatch" ? reason.detail : `not representable as ${reason.format}: ${reason.detail}`
  }
}

/**
 * The code may not travel in a Close frame (RFC 6455, section 7.4).
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidCloseCode extends Schema.TaggedError<InvalidCloseCode>(`${tag}/InvalidCloseCode`)(
  "InvalidCloseCode",
  { code: Schema.Number }
) {}

/**
 * The close reason is longer than 123 bytes of UTF-8 (RFC 6455, section 5.5).
 *
 * @category errors
 * @since 0.1.0
 */
export class CloseReasonTooLong extends Schema.TaggedError<CloseReasonTooLong>(`${tag}/CloseReasonTooLong`)(
  "CloseReasonTooLong",
  { bytes: Schema.Int }
) {}

/**
 * A close that cannot be put on the wire; nothing was sent and the connection goes on.
 *
 * @category errors
 * @since 0.1.0
 */
export class CloseError extends Schema.TaggedError<CloseError>(`${tag}/CloseError`)("CloseError", {
  reason: Schema.Union([InvalidCloseCode, CloseReasonTooLong])
}) {
  override get message() {
    return this.reason._tag
  }
}

/**
 * The URL is not one of RFC 6455, section 3.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidUrl extends Schema.TaggedError<InvalidUrl>(`${tag}/InvalidUrl`)("InvalidUrl", {
  url: Schema.String,
  detail: Schema.String
}) {}

/**
 * An option of `connect` cannot be put into a request: a subprotocol that is not a token, or given twice (RFC 6455,
 * section 4.1), or a header that HTTP does not allow.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>(`${tag}/InvalidRequest`)("InvalidRequest", {
  detail: Schema.String
}) {}

/**
 * The host name has no address.
 *
 * @category errors
 * @since 0.1.0
 */
export class HostNotFound extends Schema.TaggedError<HostNotFound>(`${tag}/HostNotFound`)("HostNotFound", {
  host: Schema.String,
  cause: Schema.Defect()
}) {}

/**
 * Nobody listens at the address.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectionRefused extends Schema.TaggedError<ConnectionRefused>(`${tag}/ConnectionRefused`)(
  "ConnectionRefused",
  { cause: Schema.Defect() }
) {}

/**
 * The server's certificate does not verify: it has expired, is issued by nobody that is trusted, or for another host.
 *
 * **Details**
 *
 * The `cause` tells which by its `code`, such as `CERT_HAS_EXPIRED`, `DEPTH_ZERO_SELF_SIGNED_CERT` or
 * `ERR_TLS_CERT_ALTNAME_INVALID` on Node. No request was sent to the server.
 *
 * @category errors
 * @since 0.1.0
 */
export class CertificateRejected extends Schema.TaggedError<CertificateRejected>(`${tag}/CertificateRejected`)(
  "CertificateRejected",
  { detail: Schema.String, cause: Schema.Defect() }
) {}

/**
 * Name lookup, connecting and the handshake together took longer than the connect timeout.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectTimeout extends Schema.TaggedError<ConnectTimeout>(`${tag}/ConnectTimeout`)("ConnectTimeout", {}) {}

/**
 * The network failed during connecting or the handshake.
 *
 * @category errors
 * @since 0.1.0
 */
export class NetworkFailure extends Schema.TaggedError<NetworkFailure>(`${tag}/NetworkFailure`)("NetworkFailure", {
  cause: Schema.Defect()
}) {}

/**
 * The server answered with an HTTP response other than 101. `body` holds at most its first 64 KiB, as text.
 *
 * @category errors
 * @since 0.1.0
 */
export class UpgradeRejected extends Schema.TaggedError<UpgradeRejected>(`${tag}/UpgradeRejected`)("UpgradeRejected", {
  status: Schema.Int,
  headers: Schema.Record(Schema.String, Schema.String),
  body: Schema.String
}) {}

/**
 * The server's 101 breaks a rule of the opening handshake (RFC 6455, section 4.1).
 *
 * @category errors
 * @since 0.1.0
 */
export class BadUpgrade extends Schema.TaggedError<BadUpgrade>(`${tag}/BadUpgrade`)("BadUpgrade", violation) {}

/**
 * A redirect was not followed: it leads from `wss:` to `ws:`, to no WebSocket URL, or there were more of them than allowed.
 *
 * **Details**
 *
 * `location` is where it leads, as the server said it. Where redirects are not asked for, they are `UpgradeRejected`.
 *
 * @category errors
 * @since 0.1.0
 */
export class RedirectRefused extends Schema.TaggedError<RedirectRefused>(`${tag}/RedirectRefused`)("RedirectRefused", {
  location: Schema.String,
  detail: Schema.String
}) {}

/**
 * What was given as a proxy, by an option or the environment, is not the URL of one; nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidProxy extends Schema.TaggedError<InvalidProxy>(`${tag}/InvalidProxy`)("InvalidProxy", {
  detail: Schema.String
}) {}

/**
 * There is no connection to the proxy: its name has no address, nobody listens there, its certificate does not verify.
 *
 * **Details**
 *
 * `proxy` is its URL, without credentials.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProxyUnreachable extends Schema.TaggedError<ProxyUnreachable>(`${tag}/ProxyUnreachable`)(
  "ProxyUnreachable",
  { proxy: Schema.String, cause: Schema.Defect() }
) {}

/**
 * The proxy wants credentials, or others: status 407 or 401, or no method of authentication in common (RFC 1928, RFC 1929).
 *
 * @category errors
 * @since 0.1.0
 */
export class ProxyAuthenticationRequired
  extends Schema.TaggedError<ProxyAuthenticationRequired>(`${tag}/ProxyAuthenticationRequired`)(
    "ProxyAuthenticationRequired",
    { proxy: Schema.String }
  )
{}

/**
 * The proxy does not connect to the server, as it is not allowed to or cannot.
 *
 * **Details**
 *
 * `code` is the status of an HTTP proxy, or the reply of a SOCKS proxy (RFC 1928, section 6).
 *
 * @category errors
 * @since 0.1.0
 */
export class ProxyRefused extends Schema.TaggedError<ProxyRefused>(`${tag}/ProxyRefused`)("ProxyRefused", {
  proxy: Schema.String,
  code: Schema.Int,
  detail: Schema.String
}) {}

/**
 * The proxy broke off, or does not speak the protocol of its URL.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProxyFailure extends Schema.TaggedError<ProxyFailure>(`${tag}/ProxyFailure`)("ProxyFailure", {
  proxy: Schema.String,
  detail: Schema.String
}) {}

/**
 * The connection was not established, and the platform keeps the reason from programs: the host may not exist, nobody may
 * listen, the certificate may be bad, the server may have answered with another status or broken a rule.
 *
 * **Details**
 *
 * In a browser, `cause` says no more than this. Other platforms that have a `WebSocket` may put something into it.
 *
 * @category errors
 * @since 0.1.0
 */
export class Undisclosed extends Schema.TaggedError<Undisclosed>(`${tag}/Undisclosed`)("Undisclosed", {
  cause: Schema.Defect()
}) {}

/**
 * A connection was not established. `url` is the one that was asked for, without credentials.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectError extends Schema.TaggedError<ConnectError>(`${tag}/ConnectError`)("ConnectError", {
  url: Schema.String,
  reason: Schema.Union([
    InvalidUrl,
    InvalidRequest,
    HostNotFound,
    ConnectionRefused,
    CertificateRejected,
    ConnectTimeout,
    NetworkFailure,
    UpgradeRejected,
    BadUpgrade,
    RedirectRefused,
    InvalidProxy,
    ProxyUnreachable,
    ProxyAuthenticationRequired,
    ProxyRefused,
    ProxyFailure,
    Unsupported,
    Undisclosed
  ])
}) {
  override get message() {
    const detail = "detail" in this.reason
      ? `: ${this.reason.detail}`
      : "status" in this.reason
      ? `: HTTP ${this.reason.status}`
      : "proxy" in this.reason
      ? `: ${this.reason.proxy}`
      : "feature" in this.reason
      ? `: ${this.reason.feature}`
      : ""
    return `${this.reason._tag} (${this.url})${detail}`
  }
}

/**
 * A connection that was open is over: the peer closed it, or it was lost.
 *
 * **Details**
 *
 * `error` is what its own messages would have failed with; there is none after an ordinary end.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectionEnded extends Schema.TaggedError<ConnectionEnded>(`${tag}/ConnectionEnded`)("ConnectionEnded", {
  closeEvent: CloseEvent,
  error: Schema.UndefinedOr(ConnectionError)
}) {
  override get message() {
    return this.error?.message ?? `close code ${this.closeEvent.code}`
  }
}

/**
 * An effect that belongs to an attempt to connect failed: the one that makes its target, or `onConnect`.
 *
 * @category errors
 * @since 0.1.0
 */
export class AttemptFailed extends Schema.TaggedError<AttemptFailed>(`${tag}/AttemptFailed`)("AttemptFailed", {
  step: Schema.Literals(["target", "onConnect"]),
  cause: Schema.Defect()
}) {
  override get message() {
    return `${this.step} failed`
  }
}

/**
 * A reconnecting connection gave up. The reason is the last ending; `exhausted` tells that it would have been retried, but
 * the schedule ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class ReconnectError extends Schema.TaggedError<ReconnectError>(`${tag}/ReconnectError`)("ReconnectError", {
  reason: Schema.Union([ConnectError, ConnectionEnded, AttemptFailed]),
  exhausted: Schema.Boolean
}) {
  override get message() {
    return `${this.reason._tag}: ${this.reason.message}${this.exhausted ? " (no more attempts)" : ""}`
  }
}
