import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"

// How often V8 collects garbage, by what it collects, while a program allocates 1 GiB in buffers that it drops; with a young
// generation that has already grown as large as it can get, as it has under load; and in one thread, lest the numbers depend on
// what else the machine does.
const collections = (size: number) => {
  const codec = new URL("../src/NodeUtf8.ts", import.meta.url).href
  const program = `import { codec } from ${JSON.stringify(codec)}
    let last
    for (let i = 0; i < ${2 ** 30 / size}; i++) last = codec.allocate(${size})`
  const flags = ["--min-semi-space-size=16", "--single-threaded-gc", "--trace-gc", "--input-type=module"]
  const { stdout } = spawnSync(process.execPath, [...flags, "--eval", program], { encoding: "utf8" })
  const count = (kind: string) => stdout.split(kind).length - 1
  return { young: count("Scavenge"), whole: count("Mark-Compact") }
}

describe("NodeUtf8", () => {
  for (const kibibytes of [4, 16, 64, 256, 1024]) {
    it(`buffers of ${kibibytes} KiB are freed without going through the whole heap`, () => {
      const { whole, young } = collections(kibibytes * 1024)
      assert.isAbove(young, 2 * whole)
    })
  }
})
