#define _GNU_SOURCE
#include "load.h"
#include "handshake.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct options options;
struct connection *connections;
int open_connections;

enum { max_opening = 64, head_capacity = 4096, read_size = 256 * 1024 };

static const struct mode *mode;
static int epoll, listener = -1, opening, next_connection;
// Messages one behind the other, from which every connection writes.
static uint8_t *pattern;
static size_t message_length, pattern_length;
static uint8_t buffer[read_size];

uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void fail(const char *message) {
  fprintf(stderr, "load: %s%s%s\n", message, errno ? ": " : "", errno ? strerror(errno) : "");
  exit(1);
}

static size_t put_frame(uint8_t *out, int opcode, bool fin, size_t length) {
  static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
  static const char text[] = "The quick brown fox jumps over the lazy dog; ";
  size_t at = 0;
  uint8_t masked = options.listen ? 0 : 0x80;
  out[at++] = (uint8_t)((fin ? 0x80 : 0) | opcode);
  if (length < 126) {
    out[at++] = (uint8_t)(masked | length);
  } else {
    int bytes = length < 65536 ? 2 : 8;
    out[at++] = (uint8_t)(masked | (bytes == 2 ? 126 : 127));
    for (int i = bytes - 1; i >= 0; i--) out[at++] = (uint8_t)(length >> (i * 8));
  }
  if (masked) {
    memcpy(out + at, mask, 4);
    at += 4;
  }
  for (size_t i = 0; i < length; i++) out[at + i] = (uint8_t)text[i % (sizeof text - 1)] ^ (masked ? mask[i & 3] : 0);
  return at + length;
}

static size_t put_message(uint8_t *out) {
  size_t fragment = options.fragment ? options.fragment : options.size, at = 0, done = 0;
  do {
    size_t length = options.size - done < fragment ? options.size - done : fragment;
    at += put_frame(out + at, done ? 0 : options.opcode, done + length == options.size, length);
    done += length;
  } while (done < options.size);
  return at;
}

void prepare(const struct mode *chosen) {
  mode = chosen;
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);

  size_t frames = options.fragment ? options.size / options.fragment + 1 : 1;
  size_t most = options.size + frames * 14;
  pattern = malloc(most + read_size);
  message_length = pattern_length = put_message(pattern);
  while (pattern_length + message_length <= read_size) {
    memcpy(pattern + pattern_length, pattern, message_length);
    pattern_length += message_length;
  }

  epoll = epoll_create1(0);
  connections = calloc((size_t)options.connections, sizeof *connections);
  for (int i = 0; i < options.connections; i++) connections[i].index = i;
}

static void watch(struct connection *c, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  if (epoll_ctl(epoll, operation, c->fd, &event) < 0) fail("epoll_ctl");
}

static void take_socket(struct connection *c, int fd) {
  int yes = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  int index = c->index;
  memset(c, 0, sizeof *c);
  c->index = index;
  c->fd = fd;
  c->state = SHAKING;
  c->head = malloc(head_capacity);
  watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

void open_connection(struct connection *c) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  if (options.receive_buffer) {
    // Small segments, as on a real network, make the server's kernel buffer small too.
    int segment = 1460;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &options.receive_buffer, sizeof options.receive_buffer);
    setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
  }
  // On the loopback this does not wait: the kernel accepts for the server.
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
  fcntl(fd, F_SETFL, O_NONBLOCK);
  take_socket(c, fd);
  char request[512];
  size_t length = handshake_request(request, sizeof request, options.port);
  if (send(fd, request, length, MSG_NOSIGNAL) != (ssize_t)length) fail("sending a handshake");
}

void close_connection(struct connection *c) {
  close(c->fd);
  free(c->head);
  c->head = NULL;
  c->state = CLOSED;
}

static void accept_connection(void) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) fail("accept");
  if (next_connection == options.connections) fail("more connections than expected");
  take_socket(&connections[next_connection++], fd);
}

void open_all(void) {
  if (options.listen) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 1024) < 0) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    printf("{\"port\":%d}\n", ntohs(address.sin_port));
  }
  while (open_connections < options.connections) {
    while (!options.listen && opening < max_opening && next_connection < options.connections) {
      opening++;
      open_connection(&connections[next_connection++]);
    }
    poll_events(100);
  }
}

// Takes what belongs to the handshake, and returns how much that was.
static size_t shake(struct connection *c, const uint8_t *data, size_t length) {
  size_t before = c->head_length;
  size_t room = head_capacity - 1 - before;
  size_t copied = length < room ? length : room;
  memcpy(c->head + before, data, copied);
  c->head_length += copied;
  c->head[c->head_length] = 0;
  char *end = strstr(c->head, "\r\n\r\n");
  if (end == NULL) {
    if (c->head_length == head_capacity - 1) fail("endless handshake");
    return length;
  }
  errno = 0;
  if (options.listen) {
    char response[512];
    size_t n = handshake_response(response, sizeof response, c->head);
    if (n == 0 || send(c->fd, response, n, MSG_NOSIGNAL) != (ssize_t)n) fail("not a WebSocket client");
  } else if (strncmp(c->head, "HTTP/1.1 101", 12) != 0) {
    fail("not upgraded");
  }
  size_t used = (size_t)(end + 4 - c->head) - before;
  free(c->head);
  c->head = NULL;
  c->state = OPEN;
  opening--;
  open_connections++;
  mode->opened(c);
  return used;
}

bool receive(struct connection *c, size_t limit) {
  ssize_t n = recv(c->fd, buffer, limit < read_size ? limit : read_size, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n <= 0) {
    mode->ended(c);
    return false;
  }
  size_t used = c->state == SHAKING ? shake(c, buffer, (size_t)n) : 0;
  if (used < (size_t)n) mode->data(c, buffer + used, (size_t)n - used);
  return true;
}

void flush(struct connection *c) {
  while (c->pending > 0) {
    size_t length = pattern_length - c->phase;
    if (length > c->pending) length = c->pending;
    ssize_t n = send(c->fd, pattern + c->phase, length, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) fail("send");
    bool blocked = n < 0;
    if (blocked != c->blocked) watch(c, EPOLL_CTL_MOD, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
    c->blocked = blocked;
    if (blocked) return;
    c->pending -= (uint64_t)n;
    c->phase = (c->phase + (size_t)n) % pattern_length;
  }
  if (c->blocked) watch(c, EPOLL_CTL_MOD, EPOLLIN);
  c->blocked = false;
}

void send_messages(struct connection *c, uint64_t messages) {
  c->pending += messages * message_length;
  if (!c->blocked) flush(c);
}

uint64_t count(struct connection *c, size_t bytes) {
  uint64_t before = c->replies;
  c->received += bytes;
  c->replies = c->received / options.reply;
  return c->replies - before;
}

int poll_events(int milliseconds) {
  struct epoll_event events[256];
  int n = epoll_wait(epoll, events, 256, milliseconds);
  for (int i = 0; i < n; i++) {
    struct connection *c = events[i].data.ptr;
    if (c == NULL) {
      accept_connection();
      continue;
    }
    if (events[i].events & EPOLLOUT) flush(c);
    if (events[i].events & ~(uint32_t)EPOLLOUT) receive(c, read_size);
  }
  return n;
}
