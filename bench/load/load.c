// usage: load mode=... name=value ...   (the names are those of struct options)
//
//   echo       every message that comes back is sent again
//   burst      on one connection after the other: sends `window` messages, lets the server queue the answers, reads them
//   broadcast  the first connection publishes; the next message once all connections have one
//   rate       sends at fixed times, whatever comes back, and measures the time from then to the answer
//   rooms      sends at fixed times, and measures the time from then to each delivery, of which there are many
//   connect    opens and closes connections, `connections` at a time
//   slow       sends as much as is taken, and reads at a fixed pace
//   idle       answers pings
//
// It prints a line of JSON for each event: {"port":1} when it listens, {"event":"ready"}, {"event":"start"} when the
// measurement begins, and {"event":"end", ...} with what was measured. Then it waits for the end of its standard input.
#include "load.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

static uint64_t received, handshakes;
static bool measuring;

static void no_opened(struct connection *c) { (void)c; }
static void lost(struct connection *c) {
  (void)c;
  fail("the peer dropped a connection");
}

static void pause_until(uint64_t time) {
  uint64_t t = now();
  if (t >= time) return;
  struct timespec pause = {.tv_sec = (time_t)((time - t) / 1000000000), .tv_nsec = (long)((time - t) % 1000000000)};
  nanosleep(&pause, NULL);
}

static void echo_data(struct connection *c, const uint8_t *data, size_t length) {
  (void)data;
  received += length;
  uint64_t replies = count(c, length);
  if (replies > 0) send_messages(c, replies);
}

static void begin_echo(void) {
  for (int i = 0; i < options.connections; i++) send_messages(&connections[i], (uint64_t)options.window);
}

// Time that was spent on looking for events where there were none.
static uint64_t idle;

// Never sleeps: to wake a process that does costs the one under test more than its own work, and nearly all of that in a
// virtual machine.
static void step_events(void) {
  uint64_t before = now();
  if (poll_events(0) == 0) idle += now() - before;
}

static void step_idle(void) { poll_events(10); }

static void burst_data(struct connection *c, const uint8_t *data, size_t length) {
  (void)data;
  received += length;
  count(c, length);
}

// The time that a server gets to answer one message before the answers are read. What the kernel buffers for a connection
// grows with its use, so each burst takes another one, as long as there are fresh ones.
enum { time_per_message = 10 * 1000 };

static void step_burst(void) {
  static int turn;
  struct connection *c = &connections[turn++ % options.connections];
  uint64_t reading = now() + (uint64_t)options.window * time_per_message;
  uint64_t last = c->replies + (uint64_t)options.window;
  send_messages(c, (uint64_t)options.window);
  while (c->pending > 0 && now() < reading) flush(c);
  pause_until(reading);
  while (c->replies < last) poll_events(10);
}

static uint64_t published;

static void publish(void) {
  uint64_t delivered = received / options.reply / (uint64_t)options.connections;
  while (published < delivered + (uint64_t)options.window) {
    published++;
    send_messages(&connections[0], 1);
  }
}

static void broadcast_data(struct connection *c, const uint8_t *data, size_t length) {
  (void)c, (void)data;
  received += length;
  publish();
}

// For each connection the times at which its messages in flight were due, and how many of each latency there were: 32
// classes for every power of two of nanoseconds.
enum { ring_length = 16384, classes = 64 * 32 };
static uint64_t *rings, histogram[classes], next_due;
static uint64_t *sent;

static int class_of(uint64_t latency) {
  if (latency < 32) return (int)latency;
  int power = 63 - __builtin_clzll(latency);
  return (power - 4) * 32 + (int)(latency >> (power - 5) & 31);
}

static double percentile(double share) {
  uint64_t total = 0, below = 0;
  for (int i = 0; i < classes; i++) total += histogram[i];
  for (int i = 0; i < classes; i++) {
    below += histogram[i];
    if (total > 0 && (double)below >= share * (double)total) {
      return i < 32 ? i : (double)((uint64_t)(32 + i % 32 + 1) << (i / 32 - 1));
    }
  }
  return 0;
}

static void begin_rate(void) {
  rings = calloc((size_t)options.connections * ring_length, sizeof *rings);
  sent = calloc((size_t)options.connections, sizeof *sent);
  next_due = now();
}

static void step_rate(void) {
  static uint64_t turn;
  while (now() >= next_due) {
    struct connection *c = &connections[turn++ % (uint64_t)options.connections];
    if (sent[c->index] - c->replies == ring_length) fail("the server does not keep up with the rate");
    rings[(size_t)c->index * ring_length + sent[c->index]++ % ring_length] = next_due;
    send_messages(c, 1);
    next_due += (uint64_t)(1e9 / options.rate);
  }
  poll_events(0);
}

static void rate_data(struct connection *c, const uint8_t *data, size_t length) {
  (void)data;
  received += length;
  uint64_t done = c->replies, replies = count(c, length), time = now();
  for (uint64_t i = done; measuring && i < done + replies; i++) {
    histogram[class_of(time - rings[(size_t)c->index * ring_length + i % ring_length])]++;
  }
}

// A message begins with the time at which it was due, so that every receiver can tell how long it took.
enum { max_stamped = 125, header = 2 };

static void step_rooms(void) {
  static uint64_t turn;
  static uint8_t frame[6 + max_stamped] = {0x82};
  frame[1] = (uint8_t)(0x80 | options.size);
  while (now() >= next_due) {
    struct connection *c = &connections[turn++ % (uint64_t)options.connections];
    memcpy(frame + 6, &next_due, sizeof next_due);
    size_t length = 6 + options.size;
    if (send(c->fd, frame, length, MSG_NOSIGNAL) != (ssize_t)length) fail("the server does not keep up with the rate");
    next_due += (uint64_t)(1e9 / options.rate);
  }
  poll_events(0);
}

static void begin_rooms(void) {
  if (options.size < sizeof next_due || options.size > max_stamped) fail("a stamped message has 8 to 125 bytes");
  next_due = now();
}

static void rooms_data(struct connection *c, const uint8_t *data, size_t length) {
  uint64_t time = now();
  received += length;
  for (size_t at = 0; at < length; at++) {
    size_t place = c->received++ % options.reply;
    if (place >= header && place < header + sizeof c->stamp) c->stamp[place - header] = data[at];
    if (place + 1 < options.reply || !measuring) continue;
    uint64_t due;
    memcpy(&due, c->stamp, sizeof due);
    histogram[class_of(time - due)]++;
  }
}

static void connect_opened(struct connection *c) {
  static const uint8_t close_frame[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8};
  handshakes++;
  c->state = CLOSING;
  send(c->fd, close_frame, sizeof close_frame, MSG_NOSIGNAL);
}

// The server ends the TCP connection behind its Close frame; one that does not parse needs to be told.
static void connect_data(struct connection *c, const uint8_t *data, size_t length) {
  (void)data, (void)length;
  shutdown(c->fd, SHUT_WR);
}

static void connect_ended(struct connection *c) {
  close_connection(c);
  open_connection(c);
}

static void begin_slow(void) {
  for (int i = 0; i < options.connections; i++) send_messages(&connections[i], 1 << 30);
}

static void step_slow(void) {
  static uint64_t next, total;
  if (next == 0) next = now();
  pause_until(next += 1000000);
  total += (uint64_t)(options.rate / 1000);
  for (int i = 0; i < options.connections; i++) {
    struct connection *c = &connections[i];
    flush(c);
    // What was not there to be read in time is not caught up with.
    while (c->received < total && receive(c, total - c->received)) {}
    if (c->received < total) c->received = total;
  }
}

static void slow_data(struct connection *c, const uint8_t *data, size_t length) {
  (void)data;
  received += length;
  c->received += length;
}

// Each read holds whole Pings, as nothing else is on its way.
static void idle_data(struct connection *c, const uint8_t *data, size_t length) {
  while (length >= 2 && data[0] == 0x89 && data[1] < 126 && length >= 2u + data[1]) {
    uint8_t pong[6 + 125] = {0x8A, (uint8_t)(0x80 | data[1])};
    memcpy(pong + 6, data + 2, data[1]);
    send(c->fd, pong, 6u + data[1], MSG_NOSIGNAL);
    length -= 2u + data[1];
    data += 2 + data[1];
  }
}

static void begin_nothing(void) {}

static const struct running {
  struct mode mode;
  void (*begin)(void);
  void (*step)(void);
} modes[] = {
    {{"echo", no_opened, echo_data, lost}, begin_echo, step_events},
    {{"burst", no_opened, burst_data, lost}, begin_nothing, step_burst},
    {{"broadcast", no_opened, broadcast_data, lost}, publish, step_events},
    {{"rate", no_opened, rate_data, lost}, begin_rate, step_rate},
    {{"rooms", no_opened, rooms_data, lost}, begin_rooms, step_rooms},
    {{"connect", connect_opened, connect_data, connect_ended}, begin_nothing, step_events},
    {{"slow", no_opened, slow_data, lost}, begin_slow, step_slow},
    {{"idle", no_opened, idle_data, lost}, begin_nothing, step_idle},
};

static double cpu(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void read_options(int count, char **arguments) {
  options = (struct options){.mode = "echo", .connections = 1, .window = 1, .opcode = 1, .size = 64, .reply = 66};
  for (int i = 1; i < count; i++) {
    char *value = strchr(arguments[i], '=');
    if (value == NULL) fail(arguments[i]);
    *value++ = 0;
    const char *name = arguments[i];
    double number = atof(value);
    if (strcmp(name, "mode") == 0) options.mode = value;
    else if (strcmp(name, "port") == 0) options.port = (int)number;
    else if (strcmp(name, "listen") == 0) options.listen = number != 0;
    else if (strcmp(name, "connections") == 0) options.connections = (int)number;
    else if (strcmp(name, "window") == 0) options.window = (int)number;
    else if (strcmp(name, "opcode") == 0) options.opcode = (int)number;
    else if (strcmp(name, "size") == 0) options.size = (size_t)number;
    else if (strcmp(name, "fragment") == 0) options.fragment = (size_t)number;
    else if (strcmp(name, "reply") == 0) options.reply = (size_t)number;
    else if (strcmp(name, "rate") == 0) options.rate = number;
    else if (strcmp(name, "receiveBuffer") == 0) options.receive_buffer = (int)number;
    else if (strcmp(name, "warmup") == 0) options.warmup = number;
    else if (strcmp(name, "seconds") == 0) options.seconds = number;
    else fail(name);
  }
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  read_options(argc, argv);
  const struct running *running = NULL;
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    if (strcmp(modes[i].mode.name, options.mode) == 0) running = &modes[i];
  }
  if (running == NULL) fail(options.mode);
  prepare(&running->mode);
  open_all();
  puts("{\"event\":\"ready\"}");
  running->begin();
  uint64_t start = now() + (uint64_t)(options.warmup * 1e9);
  while (now() < start) running->step();
  puts("{\"event\":\"start\"}");
  measuring = true;
  double cpu_before = cpu();
  uint64_t idle_before = idle;
  uint64_t bytes_before = received, handshakes_before = handshakes;
  start = now();
  uint64_t end = start + (uint64_t)(options.seconds * 1e9);
  while (now() < end) running->step();
  double seconds = (double)(now() - start) / 1e9;
  printf("{\"event\":\"end\",\"seconds\":%.6f,\"messages\":%.3f,\"handshakes\":%llu,\"cpu\":%.4f,"
         "\"latency\":[%.0f,%.0f,%.0f]}\n",
         seconds, (double)(received - bytes_before) / (double)options.reply,
         (unsigned long long)(handshakes - handshakes_before), (cpu() - cpu_before - (double)(idle - idle_before) / 1e9) / seconds, percentile(0.5),
         percentile(0.99), percentile(0.999));
  // Stays connected until the runner is done, or gone.
  while (getchar() != EOF) {}
  return 0;
}
