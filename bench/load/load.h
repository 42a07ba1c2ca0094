// A load generator that counts bytes and never parses: all messages of a run are alike, so the number of bytes that came
// back tells the number of messages. See load.c for the modes and the options.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options {
  const char *mode;
  int port;           // where the server listens
  bool listen;        // be the server: accept `connections` and send unmasked frames
  int connections;
  int window;         // messages in flight, on each connection
  int opcode;
  size_t size;        // of the payload of a message
  size_t fragment;    // of the payload of its frames; 0: the message is one frame
  size_t reply;       // bytes that come back for one message
  double rate;        // mode rate: messages per second; mode slow: bytes read per second and connection
  int receive_buffer; // SO_RCVBUF; 0: the system's
  double warmup;
  double seconds;
};

enum state { CLOSED, SHAKING, OPEN, CLOSING };

struct connection {
  int fd;
  int index;
  enum state state;
  bool blocked;      // the kernel takes no more: waiting for EPOLLOUT
  char *head;        // what arrived of the handshake
  size_t head_length;
  uint64_t pending;  // bytes of messages still to be written
  size_t phase;      // where in the pattern they begin
  uint64_t received; // bytes that came back
  uint64_t replies;  // whole messages among them
  uint8_t stamp[8];  // mode rooms: when the message that is being received was due
};

// What a mode does when something happens.
struct mode {
  const char *name;
  void (*opened)(struct connection *);
  void (*data)(struct connection *, const uint8_t *, size_t);
  void (*ended)(struct connection *);
};

extern struct options options;
extern struct connection *connections;
extern int open_connections;

uint64_t now(void); // in nanoseconds
void fail(const char *message);

// Prepares the bytes of the messages, and the connections.
void prepare(const struct mode *mode);
// Opens, or accepts, all connections.
void open_all(void);
void open_connection(struct connection *);
void close_connection(struct connection *);
// Handles what happens within the next milliseconds.
int poll_events(int milliseconds);
// Queues messages, and writes what the kernel takes.
void send_messages(struct connection *, uint64_t count);
void flush(struct connection *);
// Reads once; false if nothing was there.
bool receive(struct connection *, size_t limit);
// Counts bytes that came back, and returns how many messages they complete.
uint64_t count(struct connection *, size_t bytes);
