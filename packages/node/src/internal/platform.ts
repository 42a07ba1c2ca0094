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
  sha1: (bytes) => hash("sha1", bytes, "buffer"),
  utf8: NodeUtf8.codec,
  compression: NodeCompression.compression
}
