import { Clock, Effect } from "effect"
import { generate, type SelfsignedOptions } from "selfsigned"

/** A certificate and its key, in PEM. */
export interface Certificate {
  readonly cert: string
  readonly key: string
}

const make = (name: string, options: SelfsignedOptions): Effect.Effect<Certificate> =>
  Effect.map(
    Effect.promise(() =>
      generate([{ name: "commonName", value: name }], { keyType: "ec", algorithm: "sha256", ...options })
    ),
    (made) => ({ cert: made.cert, key: made.private })
  )

const makeAuthority = (name: string): Effect.Effect<Certificate> =>
  make(name, {
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true }
    ]
  })

const issue = (authority: Certificate, name: string, options: SelfsignedOptions = {}): Effect.Effect<Certificate> =>
  make(name, {
    ca: authority,
    extensions: [{
      name: "subjectAltName",
      altNames: [
        { type: 2, value: name },
        ...(name === "localhost" ? ["127.0.0.1", "::1"] : []).map((ip) => ({ type: 7 as const, ip }))
      ]
    }],
    ...options
  })

const day = 86_400_000

const makeAll = Effect.gen(function*() {
  const now = yield* Clock.currentTimeMillis
  const past = { notBeforeDate: new Date(now - 2 * day), notAfterDate: new Date(now - day) }
  const future = { notBeforeDate: new Date(now + day), notAfterDate: new Date(now + 2 * day) }
  const authority = yield* makeAuthority("Authority")
  const stranger = yield* makeAuthority("Stranger")
  return yield* Effect.all({
    authority: Effect.succeed(authority),
    stranger: Effect.succeed(stranger),
    /** For localhost and its addresses. */
    server: issue(authority, "localhost"),
    elsewhere: issue(authority, "other.example"),
    expired: issue(authority, "localhost", past),
    early: issue(authority, "localhost", future),
    selfSigned: make("localhost", {}),
    ada: issue(authority, "Ada"),
    expiredAda: issue(authority, "Ada", past),
    foreignAda: issue(stranger, "Ada")
  }, { concurrency: "unbounded" })
})

let all: Promise<Effect.Success<typeof makeAll>> | undefined

/** Certificates for tests, made at their first use: those of servers and those of Ada, a client. */
export const certificates = Effect.promise(() => (all ??= Effect.runPromise(makeAll)))
