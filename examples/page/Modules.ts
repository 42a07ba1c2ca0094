/**
 * The modules of effect and of effect-ws for a page, without a build step: each file is served as it is, types taken out.
 */
import { Cache, Effect, FileSystem, Path } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { stripTypeScriptTypes } from "node:module"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))

// Where the modules of a package are. What is published to npm has no types in it any more: there, it is `dist` of both.
const packages = [
  { name: "effect", folder: "node_modules/effect/dist", extension: ".js" },
  { name: "@effect-ws/core", folder: "packages/core/src", extension: ".ts" }
]

const javaScript = (source: string) => HttpServerResponse.text(source, { contentType: "text/javascript" })

/** A TypeScript file as a module that browsers understand. */
export const fromFile = Effect.fnUntraced(function*(file: string) {
  const files = yield* FileSystem.FileSystem
  const source = yield* files.readFileString(file)
  return javaScript(file.endsWith(".ts") ? stripTypeScriptTypes(source) : source)
})

/** Finds the modules, and reads each once: gives the import map that a page needs, and the route that serves them. */
export const make = Effect.gen(function*() {
  const files = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const imports: Record<string, string> = {}
  // Only what is listed here can be asked for.
  const fileOf = new Map<string, string>()
  for (const { extension, folder, name } of packages) {
    for (const file of yield* files.readDirectory(path.join(root, folder), { recursive: true })) {
      if (!file.endsWith(extension)) continue
      const url = `/modules/${name}/${file}`
      fileOf.set(url, path.join(root, folder, file))
      imports[`${name}/${file.slice(0, -extension.length)}`] = url
    }
    imports[name] = `/modules/${name}/index${extension}`
  }
  const load = yield* Cache.make({ capacity: Infinity, lookup: fromFile })
  const route = HttpRouter.add(
    "GET",
    "/modules/*",
    Effect.gen(function*() {
      const { url } = yield* HttpServerRequest.HttpServerRequest
      const file = fileOf.get(url)
      return file === undefined ? HttpServerResponse.empty({ status: 404 }) : yield* Effect.orDie(Cache.get(load, file))
    })
  )
  return { importMap: JSON.stringify({ imports }), route }
})
