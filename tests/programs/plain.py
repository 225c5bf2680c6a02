"""The same program as plain.c, in Python with pyzmq alone; `stuck` is a rep that does not answer after COUNT requests."""

import itertools
import sys
import threading

import zmq

KINDS = {"push": zmq.PUSH, "pull": zmq.PULL, "rep": zmq.REP, "req": zmq.REQ, "pub": zmq.PUB, "sub": zmq.SUB, "stuck": zmq.REP}


def main() -> None:
    kind, endpoint, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    pace = threading.Event()
    prefix = sys.argv[4].encode() if len(sys.argv) > 4 else b""
    with zmq.Context() as context, context.socket(KINDS[kind]) as socket:
        socket.linger = 10_000
        if kind == "sub":
            socket.subscribe(prefix)
        socket.connect(endpoint)
        for number in itertools.count() if not count or kind == "stuck" else range(count):
            text = b"%s%d" % (prefix, number)
            if kind == "push":
                socket.send(text)
            elif kind == "pull":
                print(socket.recv().decode(), flush=True)
            elif kind in ("rep", "stuck"):
                body = socket.recv()
                print(body.decode(), flush=True)
                if kind == "stuck" and number >= count:
                    socket.poll()
                socket.send(b"ok:" + body)
            elif kind == "req":
                socket.send(text)
                print(b"|".join(socket.recv_multipart()).decode(), flush=True)
            elif kind == "pub":
                socket.send_multipart([b"t.", text])
                # Not a Poller: without sockets it does not wait.
                pace.wait(0.005)
            else:
                print(socket.recv_multipart()[1].decode(), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main()
