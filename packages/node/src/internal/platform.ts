/**
 * What Node brings to servers and clients alike.
 *
 * @since 0.1.0
 */
import type { Platform } from "@effect-ws/core/ServerRuntime"
import { hash } from "node:crypto"
import * as NodeCompression from "../NodeCompression.ts"
import * as NodeUtf8 from "../NodeUtf8.ts"

export const platform: Platform = {
  sha1: (text) => hash("sha1", text, "base64"),
  utf8: NodeUtf8.codec,
  compression: NodeCompression.compression
}
