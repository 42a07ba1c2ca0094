#include "handshake.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

size_t handshake_request(char *out, size_t capacity, int port) {
  return (size_t)snprintf(out, capacity,
                          "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          port);
}

static uint32_t rotate(uint32_t x, int n) { return (x << n) | (x >> (32 - n)); }

// SHA-1 of fewer than 120 bytes.
static void sha1(const uint8_t *data, size_t length, uint8_t out[20]) {
  uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
  uint8_t padded[128] = {0};
  memcpy(padded, data, length);
  padded[length] = 0x80;
  size_t total = length < 56 ? 64 : 128;
  padded[total - 2] = (uint8_t)(length * 8 >> 8);
  padded[total - 1] = (uint8_t)(length * 8);
  for (size_t block = 0; block < total; block += 64) {
    uint32_t w[80];
    for (int i = 0; i < 16; i++) {
      const uint8_t *p = padded + block + i * 4;
      w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
      uint32_t f = i < 20 ? ((b & c) | (~b & d)) + 0x5A827999
                 : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                 : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                          : (b ^ c ^ d) + 0xCA62C1D6;
      uint32_t next = rotate(a, 5) + f + e + w[i];
      e = d;
      d = c;
      c = rotate(b, 30);
      b = a;
      a = next;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
  }
  for (int i = 0; i < 20; i++) out[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
}

// Base64 of 20 bytes: 28 characters.
static void base64(const uint8_t in[20], char out[29]) {
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  uint8_t bytes[21] = {0};
  memcpy(bytes, in, 20);
  for (int i = 0; i < 7; i++) {
    uint32_t group = (uint32_t)bytes[i * 3] << 16 | (uint32_t)bytes[i * 3 + 1] << 8 | bytes[i * 3 + 2];
    for (int j = 0; j < 4; j++) out[i * 4 + j] = alphabet[group >> (18 - j * 6) & 63];
  }
  out[27] = '=';
  out[28] = 0;
}

size_t handshake_response(char *out, size_t capacity, const char *request) {
  static const char name[] = "\r\nsec-websocket-key:";
  const char *key = request;
  while (*key != 0 && strncasecmp(key, name, sizeof name - 1) != 0) key++;
  if (*key == 0) return 0;
  key += sizeof name - 1;
  key += strspn(key, " \t");
  size_t length = strcspn(key, " \t\r\n");
  if (length != 24) return 0;
  uint8_t text[24 + sizeof guid - 1], digest[20];
  memcpy(text, key, 24);
  memcpy(text + 24, guid, sizeof guid - 1);
  sha1(text, sizeof text, digest);
  char accept[29];
  base64(digest, accept);
  return (size_t)snprintf(out, capacity,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n",
                          accept);
}
