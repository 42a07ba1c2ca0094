// The opening handshake (RFC 6455, section 4), as far as a load generator needs it.
#include <stddef.h>

// Writes the request of a client, and returns its length.
size_t handshake_request(char *out, size_t capacity, int port);

// Writes the answer to a request, and returns its length; 0 if it is not the request of a WebSocket client.
size_t handshake_response(char *out, size_t capacity, const char *request);
