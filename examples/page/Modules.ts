/**
 * The modules of effect and of effect-ws for a page, without a build step: each file is served by itself, types taken out.
 */
import { Cache, Effect, FileSystem, Layer, Path } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse, HttpStaticServer } from "effect/http"
import { stripTypeScriptTypes } from "node:module"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Browsers ask each time whether what they have is still the same. */
export const cacheControl = "no-cache"

/** A TypeScript file as a module that browsers understand. */
export const fromFile = Effect.fnUntraced(function*(file: string) {
  const files = yield* FileSystem.FileSystem
  const source = stripTypeScriptTypes(yield* files.readFileString(file))
  return HttpServerResponse.text(source, {
    contentType: "text/javascript",
    headers: { "cache-control": cacheControl }
  })
})

// The modules in a folder: how they are imported, and where they are.
const modulesIn = Effect.fnUntraced(function*(name: string, folder: string, extension: string) {
  const files = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const imports: Record<string, string> = { [name]: `/modules/${name}/index${extension}` }
  const fileOf = new Map<string, string>()
  for (const file of yield* files.readDirectory(folder, { recursive: true })) {
    if (!file.endsWith(extension)) continue
    const url = `/modules/${name}/${file}`
    fileOf.set(url, path.join(folder, file))
    imports[`${name}/${file.slice(0, -extension.length)}`] = url
  }
  return { imports, fileOf }
})

/** Finds the modules: gives the import map that a page needs, and the routes that serve them. */
export const make = Effect.gen(function*() {
  const path = yield* Path.Path
  // What npm installs is JavaScript already, and would be for effect-ws as well.
  const effectFolder = path.join(root, "node_modules/effect/dist")
  const effect = yield* modulesIn("effect", effectFolder, ".js")
  const core = yield* modulesIn("@effect-ws/core", path.join(root, "packages/core/src"), ".ts")
  const load = yield* Cache.make({ capacity: Infinity, lookup: fromFile })
  const routes = Layer.mergeAll(
    HttpStaticServer.layer({ root: effectFolder, prefix: "/modules/effect", cacheControl }),
    HttpRouter.add(
      "GET",
      "/modules/@effect-ws/core/*",
      Effect.gen(function*() {
        const { url } = yield* HttpServerRequest.HttpServerRequest
        // Only what was found can be asked for.
        const file = core.fileOf.get(url)
        return file === undefined
          ? HttpServerResponse.empty({ status: 404 })
          : yield* Effect.orDie(Cache.get(load, file))
      })
    )
  )
  return { importMap: JSON.stringify({ imports: { ...effect.imports, ...core.imports } }), routes }
})
