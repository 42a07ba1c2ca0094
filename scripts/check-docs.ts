/**
 * Compiles every TypeScript block of README.md, docs/ and the JSDoc of the packages.
 */
import { execFileSync } from "node:child_process"
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const root = join(import.meta.dirname, "..")
// Inside the workspace, so that the blocks resolve the packages as a user's code would.
const out = join(root, "node_modules/.cache/docs")

const blocksOf = (text: string): Array<string> => {
  const blocks: Array<string> = []
  let block: Array<string> | undefined
  for (const line of text.split("\n")) {
    const code = line.replace(/^ \* ?/, "")
    if (block === undefined) {
      if (code.trim() === "```ts") block = []
    } else if (code.trim() === "```") {
      blocks.push(block.join("\n"))
      block = undefined
    } else {
      block.push(code)
    }
  }
  return blocks
}

rmSync(out, { recursive: true, force: true })
mkdirSync(out, { recursive: true })

const sources = ["README.md", ...globSync(["docs/**/*.md", "packages/*/src/**/*.ts"], { cwd: root })]
let count = 0
for (const source of sources) {
  blocksOf(readFileSync(join(root, source), "utf8")).forEach((block, index) => {
    const name = `${source.replaceAll(/[^A-Za-z0-9]+/g, "-")}-${index}.ts`
    writeFileSync(join(out, name), `// ${source}, block ${index}\n${block}\nexport {}\n`)
    count++
  })
}
writeFileSync(
  join(out, "tsconfig.json"),
  JSON.stringify({
    extends: join(root, "tsconfig.base.json"),
    include: ["*.ts"],
    compilerOptions: {
      rootDir: root,
      composite: false,
      incremental: false,
      declarationMap: false,
      noEmit: true,
      noUnusedLocals: false,
      types: ["node"],
      plugins: []
    }
  })
)
try {
  execFileSync("tsc", ["-p", out], { stdio: "inherit" })
} catch {
  console.error(`The code of the documentation does not compile; the blocks are in ${out}`)
  process.exit(1)
}
console.log(`${count} code blocks of ${sources.length} files compile`)
