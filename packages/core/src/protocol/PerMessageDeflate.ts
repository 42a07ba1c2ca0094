/**
 * The negotiation of permessage-deflate (RFC 7692, sections 5 and 7.1), for both roles.
 *
 * @since 0.1.0
 */
import type { Extension } from "./ExtensionHeader.ts"

/**
 * The name of the extension (RFC 7692, section 7).
 *
 * @category constants
 * @since 0.1.0
 */
export const extensionName = "permessage-deflate"

/**
 * The base-2 logarithm of the size of an LZ77 window (RFC 7692, section 7.1.2): 8 is 256 bytes, 15 is 32 KiB.
 *
 * @category models
 * @since 0.1.0
 */
export type WindowBits = 8 | 9 | 10 | 11 | 12 | 13 | 14 | 15

/**
 * How messages of one direction may be compressed: whether a message may refer back to those before it, and how far.
 *
 * @category models
 * @since 0.1.0
 */
export interface Direction {
  readonly contextTakeover: boolean
  readonly windowBits: WindowBits
}

/**
 * Both directions, as one endpoint sees them: what it wants at most, or what was agreed on.
 *
 * @category models
 * @since 0.1.0
 */
export interface Parameters {
  readonly sending: Direction
  readonly receiving: Direction
}

/**
 * The names of the parameters of one direction.
 */
interface Names {
  readonly noContextTakeover: string
  readonly maxWindowBits: string
}

const server: Names = { noContextTakeover: "server_no_context_takeover", maxWindowBits: "server_max_window_bits" }
const client: Names = { noContextTakeover: "client_no_context_takeover", maxWindowBits: "client_max_window_bits" }

/**
 * The offer of a client (RFC 7692, section 7.1).
 *
 * **Details**
 *
 * What the server is asked for, it has to grant or decline: no context takeover (section 7.1.1.1) and its window
 * (7.1.2.1). What the client says of itself is a hint (7.1.1.2), but that it can limit its own window at all is what lets
 * the server ask for that (7.1.2.2).
 *
 * @category negotiation
 * @since 0.1.0
 */
export const offer = ({ receiving, sending }: Parameters): Extension => ({
  name: extensionName,
  parameters: [
    ...noContextTakeover(server, receiving),
    ...noContextTakeover(client, sending),
    ...maxWindowBits(server, receiving),
    [client.maxWindowBits, sending.windowBits === 15 ? undefined : String(sending.windowBits)]
  ]
})

/**
 * A server's answer to the offers of a client: the first that it can keep (RFC 7692, section 5.1), or `undefined`.
 *
 * **Details**
 *
 * An offer with an unknown parameter, an invalid value, or a parameter that comes twice is declined (section 7.1). What the
 * client asks for is granted; what `wanted` limits beyond that, the response limits too, where the RFC lets a server do so.
 * A client whose window the server may not limit is told to do without context takeover instead, so that no window of more
 * than the wanted size has to be kept for it.
 *
 * @category negotiation
 * @since 0.1.0
 */
export const accept = (
  offers: ReadonlyArray<Extension>,
  wanted: Parameters
): { readonly response: Extension; readonly agreed: Parameters } | undefined => {
  for (const { name, parameters } of offers) {
    const offered = name === extensionName ? read(parameters, true) : undefined
    if (offered === undefined) continue
    const sending: Direction = {
      contextTakeover: wanted.sending.contextTakeover && !offered.server.noContextTakeover,
      windowBits: smaller(wanted.sending.windowBits, offered.server.maxWindowBits)
    }
    // Section 7.1.2.2: without the parameter in the offer, the response must not have it.
    const mayLimit = offered.client.maxWindowBits !== undefined
    const receiving: Direction = {
      contextTakeover: wanted.receiving.contextTakeover && !offered.client.noContextTakeover &&
        (mayLimit || wanted.receiving.windowBits === 15),
      windowBits: mayLimit ? smaller(wanted.receiving.windowBits, offered.client.maxWindowBits) : 15
    }
    const response: Extension = {
      name,
      parameters: [
        ...noContextTakeover(server, sending),
        ...noContextTakeover(client, receiving),
        // Section 7.1.2.1: a limit that was asked for is granted by saying so, even if it is none.
        ...(offered.server.maxWindowBits === undefined
          ? maxWindowBits(server, sending)
          : [[server.maxWindowBits, String(sending.windowBits)] as const]),
        ...maxWindowBits(client, receiving)
      ]
    }
    return { response, agreed: { sending, receiving } }
  }
  return undefined
}

/**
 * What a client and its server have agreed on by the server's response, `undefined` if the server declined, or why the
 * response does not answer the offer that {@link offer} makes of `wanted` (RFC 7692, section 7.1).
 *
 * @category negotiation
 * @since 0.1.0
 */
export const agree = (
  response: ReadonlyArray<Extension>,
  wanted: Parameters
): Parameters | undefined | { readonly _tag: "InvalidResponse"; readonly detail: string } => {
  const own = response.filter(({ name }) => name === extensionName)
  const [extension] = own
  if (extension === undefined) return undefined
  if (own.length > 1) return invalid("permessage-deflate is accepted twice")
  const accepted = read(extension.parameters, false)
  if (accepted === undefined) return invalid("the parameters of permessage-deflate are invalid (RFC 7692, section 7.1)")
  const { receiving, sending } = wanted
  if (!receiving.contextTakeover && !accepted.server.noContextTakeover) {
    return invalid("server_no_context_takeover was asked for and is not granted (RFC 7692, section 7.1.1.1)")
  }
  const serverBits = accepted.server.maxWindowBits ?? 15
  if (serverBits > receiving.windowBits) {
    return invalid("server_max_window_bits was asked for and is not granted (RFC 7692, section 7.1.2.1)")
  }
  return {
    sending: {
      contextTakeover: sending.contextTakeover && !accepted.client.noContextTakeover,
      windowBits: smaller(sending.windowBits, accepted.client.maxWindowBits)
    },
    receiving: { contextTakeover: !accepted.server.noContextTakeover, windowBits: serverBits }
  }
}

const invalid = (detail: string) => ({ _tag: "InvalidResponse" as const, detail })

const noContextTakeover = ({ noContextTakeover }: Names, { contextTakeover }: Direction): Extension["parameters"] =>
  contextTakeover ? [] : [[noContextTakeover, undefined]]

const maxWindowBits = ({ maxWindowBits }: Names, { windowBits }: Direction): Extension["parameters"] =>
  windowBits === 15 ? [] : [[maxWindowBits, String(windowBits)]]

const smaller = (bits: WindowBits, limit: WindowBits | undefined): WindowBits =>
  limit === undefined || bits < limit ? bits : limit

interface Read {
  readonly noContextTakeover: boolean
  readonly maxWindowBits: WindowBits | undefined
}

// The parameters by their meaning, or nothing if one is unknown, repeated or has a value that it may not have. Only in an
// offer, `client_max_window_bits` may have none, which limits nothing (section 7.1.2.2).
const read = (
  parameters: Extension["parameters"],
  isOffer: boolean
): { readonly server: Read; readonly client: Read } | undefined => {
  const read = {
    server: { noContextTakeover: false, maxWindowBits: undefined as WindowBits | undefined },
    client: { noContextTakeover: false, maxWindowBits: undefined as WindowBits | undefined }
  }
  const seen = new Set<string>()
  for (const [name, value] of parameters) {
    if (seen.has(name)) return undefined
    seen.add(name)
    const side = name.startsWith("server_") ? read.server : read.client
    switch (name) {
      case server.noContextTakeover:
      case client.noContextTakeover:
        if (value !== undefined) return undefined
        side.noContextTakeover = true
        break
      case server.maxWindowBits:
      case client.maxWindowBits:
        side.maxWindowBits = isOffer && side === read.client && value === undefined ? 15 : windowBitsOf(value)
        if (side.maxWindowBits === undefined) return undefined
        break
      default:
        return undefined
    }
  }
  return read
}

const all: ReadonlyArray<WindowBits> = [8, 9, 10, 11, 12, 13, 14, 15]

// Section 7.1.2: a decimal number without leading zeros.
const windowBitsOf = (value: string | undefined): WindowBits | undefined => all.find((bits) => String(bits) === value)
