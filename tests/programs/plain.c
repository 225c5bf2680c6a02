/* A plain ZeroMQ program without any knowledge of Ganglion: one socket that connects to an ipc leg.
 *
 *   plain PATTERN ENDPOINT COUNT [TEXT]
 *
 *   push  sends COUNT messages "TEXT<i>"                    pull  prints COUNT messages
 *   rep   answers COUNT requests with "ok:" + request       req   sends COUNT requests "TEXT<i>", prints what comes back, frames joined by "|"
 *   pub   publishes "TEXT<i>" on the topic "t." in a loop   sub   subscribes to TEXT, prints COUNT bodies
 *         until it is killed
 *
 * One line per message on stdout, "done" at the end. A rep acknowledges what it prints. COUNT 0: for ever. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libzmq's own names; its header need not be installed. */
extern void *zmq_ctx_new(void);
extern int zmq_ctx_term(void *);
extern void *zmq_socket(void *, int);
extern int zmq_close(void *);
extern int zmq_connect(void *, const char *);
extern int zmq_setsockopt(void *, int, const void *, size_t);
extern int zmq_getsockopt(void *, int, void *, size_t *);
extern int zmq_send(void *, const void *, size_t, int);
extern int zmq_recv(void *, void *, size_t, int);
extern int zmq_errno(void);
extern const char *zmq_strerror(int);
typedef struct { void *socket; int fd; short events; short revents; } zmq_pollitem_t;
extern int zmq_poll(zmq_pollitem_t *, int, long);
enum { ZMQ_PUB = 1, ZMQ_SUB = 2, ZMQ_REQ = 3, ZMQ_REP = 4, ZMQ_PULL = 7, ZMQ_PUSH = 8 };
enum { ZMQ_SUBSCRIBE = 6, ZMQ_RCVMORE = 13, ZMQ_LINGER = 17, ZMQ_SNDMORE = 2 };

static char buffer[1 << 20];

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(3);
}

static int receive(void *socket) {
    int size = zmq_recv(socket, buffer, sizeof buffer - 1, 0);
    if (size < 0) fail("recv");
    if (size > (int) sizeof buffer - 1) size = sizeof buffer - 1;
    buffer[size] = 0;
    return size;
}

static int more(void *socket) {
    int value = 0;
    size_t size = sizeof value;
    zmq_getsockopt(socket, ZMQ_RCVMORE, &value, &size);
    return value;
}

static void deliver(void *socket, const char *text, size_t size, int flags) {
    if (zmq_send(socket, text, size, flags) < 0) fail("send");
}

static void say(const char *text) {
    puts(text);
    fflush(stdout);
}

int main(int argc, char **argv) {
    static const struct { const char *name; int type; } types[] = {
        {"push", ZMQ_PUSH}, {"pull", ZMQ_PULL}, {"rep", ZMQ_REP}, {"req", ZMQ_REQ}, {"pub", ZMQ_PUB}, {"sub", ZMQ_SUB}};
    char text[4096], line[8192];
    int type = 0, linger = 10000;
    if (argc < 4) return 64;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(argv[1], types[i].name)) type = types[i].type;
    long count = atol(argv[3]);
    const char *prefix = argc > 4 ? argv[4] : "";
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, type);
    if (!socket) fail("socket");
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    if (type == ZMQ_SUB) zmq_setsockopt(socket, ZMQ_SUBSCRIBE, prefix, strlen(prefix));
    if (zmq_connect(socket, argv[2])) fail("connect");
    for (long i = 0; !count || i < count; i++) {
        snprintf(text, sizeof text, "%s%ld", prefix, i);
        switch (type) {
        case ZMQ_PUSH:
            deliver(socket, text, strlen(text), 0);
            break;
        case ZMQ_PULL:
            receive(socket);
            say(buffer);
            break;
        case ZMQ_REP: {
            int size = receive(socket);
            say(buffer);
            memmove(buffer + 3, buffer, size + 1);
            memcpy(buffer, "ok:", 3);
            deliver(socket, buffer, size + 3, 0);
            break;
        }
        case ZMQ_REQ:
            deliver(socket, text, strlen(text), 0);
            receive(socket);
            line[0] = 0;
            strncat(line, buffer, sizeof line - 1);
            while (more(socket)) {
                receive(socket);
                strncat(line, "|", sizeof line - strlen(line) - 1);
                strncat(line, buffer, sizeof line - strlen(line) - 1);
            }
            say(line);
            break;
        case ZMQ_PUB:
            deliver(socket, "t.", 2, ZMQ_SNDMORE);
            deliver(socket, text, strlen(text), 0);
            zmq_poll(NULL, 0, 5);
            break;
        case ZMQ_SUB:
            receive(socket);
            receive(socket);
            say(buffer);
            break;
        default:
            return 64;
        }
    }
    zmq_close(socket);
    zmq_ctx_term(context);
    say("done");
    return 0;
}
