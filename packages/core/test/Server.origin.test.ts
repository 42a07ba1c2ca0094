import type { OriginPolicy } from "@effect-ws/core/protocol/Origin"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { echo, serve } from "./serverFixture.ts"

type Row = readonly [origin: string | undefined, status: number]

const example = "https://example.com"

const policies: ReadonlyArray<readonly [name: string, policy: OriginPolicy | undefined, rows: ReadonlyArray<Row>]> = [
  ["by default, the same origin or none", undefined, [
    [undefined, 101],
    ["http://127.0.0.1:8080", 101],
    ["http://127.0.0.1", 403],
    ["http://127.0.0.1:8081", 403],
    [example, 403],
    ["null", 403],
    ["http://127.0.0.1:8080.example.com", 403],
    ["http://127.0.0.1:8080 https://example.com", 403]
  ]],
  ["an allow list, and nothing else", { allow: [example, "http://localhost:3000"] }, [
    [undefined, 101],
    [example, 101],
    ["HTTPS://EXAMPLE.COM", 101],
    ["http://localhost:3000", 101],
    ["http://example.com", 403],
    ["https://sub.example.com", 403],
    ["http://127.0.0.1:8080", 403],
    ["null", 403]
  ]],
  ["an allow list, for browsers only", { allow: [example], requireOrigin: true }, [[undefined, 403], [example, 101]]],
  ["the same origin, for browsers only", { allow: "same-origin", requireOrigin: true }, [
    [undefined, 403],
    ["http://127.0.0.1:8080", 101]
  ]],
  ["any", { allow: "any" }, [[undefined, 101], [example, 101], ["null", 101], ["nonsense", 101]]]
]

describe("the origin policy (RFC 6455, sections 4.2.2 and 10.2)", () => {
  it.effect.each(policies)("%s", ([, policy, rows]) =>
    Effect.gen(function*() {
      const { ask } = yield* serve(echo, policy === undefined ? {} : { origin: policy })
      for (const [origin, expected] of rows) {
        const { status } = yield* ask("/", { Host: "127.0.0.1:8080", Origin: origin })
        assert.strictEqual(status, expected, String(origin))
      }
    }))
})
