/**
 * Asking a server for an upgrade, and again where its redirects lead.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Extension } from "../protocol/ExtensionHeader.ts"
import * as Handshake from "../protocol/Handshake.ts"
import { redirectOf } from "../protocol/Redirect.ts"
import type { WebSocketUrl } from "../protocol/WebSocketUrl.ts"
import { type ConnectError, RedirectRefused } from "../WebSocketError.ts"

/** What is asked for. */
export interface Question {
  readonly url: WebSocketUrl
  readonly headers: Handshake.Headers
  readonly subprotocols: ReadonlyArray<string>
  readonly extensions: ReadonlyArray<Extension>
  readonly maxRedirects: number
}

/** The request that was answered by a 101, with its key, and what came of it. */
export interface Answered<Opened> {
  readonly url: WebSocketUrl
  readonly headers: Handshake.Headers
  readonly key: string
  readonly opened: Opened
}

interface Platform<Opened> {
  readonly open: (request: Pick<Answered<Opened>, "url" | "headers">) => Effect.Effect<Opened, ConnectError["reason"]>
  readonly randomFill: (bytes: Uint8Array) => void
}

/** Asks, and follows as many redirects as may be followed. */
export const ask = <Opened>(
  platform: Platform<Opened>,
  question: Question,
  followed = 0
): Effect.Effect<Answered<Opened>, ConnectError["reason"]> =>
  Effect.suspend(() => {
    const { extensions, maxRedirects, subprotocols, url } = question
    // RFC 6455, section 4.1, item 7: each request has a key of its own, that of a redirect too.
    const nonce = new Uint8Array(16)
    platform.randomFill(nonce)
    const key = Handshake.encodeKey(nonce)
    const host = url.hostHeader
    const headers = Handshake.requestHeaders({ key, host, subprotocols, extensions, headers: question.headers })
    return platform.open({ url, headers }).pipe(
      Effect.map((opened) => ({ url, headers, key, opened })),
      Effect.catchTag("UpgradeRejected", (rejection) => {
        const redirect = maxRedirects > 0 ? redirectOf(url, rejection) : undefined
        if (redirect === undefined) return Effect.fail(rejection)
        const refuse = (detail: string) =>
          Effect.fail(new RedirectRefused({ location: rejection.headers["location"] ?? "", detail }))
        if (redirect._tag === "InvalidRedirect") return refuse(redirect.detail)
        if (followed >= maxRedirects) return refuse(`more than ${maxRedirects} redirects`)
        // Whatever is secret in them is for the origin of the URL alone.
        const kept = redirect.isSameOrigin ? question.headers : {}
        return ask(platform, { ...question, url: redirect.url, headers: kept }, followed + 1)
      })
    )
  })
