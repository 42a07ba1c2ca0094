/** A certificate for the servers that speak TLS. */
import { generate } from "selfsigned"

/** A certificate and its key, in PEM. */
export interface Certificate {
  readonly cert: string
  readonly key: string
}

let made: Promise<Certificate> | undefined

const make = async (): Promise<Certificate> => {
  const { cert, private: key } = await generate([{ name: "commonName", value: "localhost" }], { keyType: "ec" })
  return { cert, key }
}

/** One for all. */
export const certificate = (): Promise<Certificate> => made ??= make()
