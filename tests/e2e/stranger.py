"""Runs in a pod of its own: knocks at the doors of a domain and prints, as one JSON line, what each of them told.

    python stranger.py '[{"at": "join", ...}, {"at": "data", ...}]'

`join` asks a name server for membership with a token; `data` says HELLO and sends a forged batch to a data port. `keys` names the key pair that an attempt
uses, so that a later one can come back with the same; null: no CURVE at all.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

import zmq

from ganglion.runtime.sockets import Context, CurveKeys, Socket, make_context, make_socket
from ganglion.wire import frames
from ganglion.wire.control import Beat, Bye, ChannelReport, Directory, Part, Refuse, Report, Welcome, decode, encode
from ganglion.wire.join import Join, encode_join

WAIT_SECONDS = 5.0


class Stranger:
    """Makes the attempts; sockets of those that succeed stay open until the end, as a member's would."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.pairs: dict[str, CurveKeys] = {}
        self.kept: list[Socket] = []

    def dial(self, attempt: dict[str, Any]) -> tuple[Socket, CurveKeys | None]:
        name = attempt["keys"]
        keys = None if name is None else self.pairs.setdefault(name, CurveKeys.generate())
        server = attempt.get("server_key") or CurveKeys.generate().public
        socket = make_socket(self.context, zmq.DEALER, curve=keys, server_key=server if keys else None, max_message_bytes=-1)
        socket.linger = 0
        socket.connect(attempt["endpoint"])
        self.kept.append(socket)
        return socket, keys

    def join(self, attempt: dict[str, Any]) -> dict[str, Any]:
        """Answers of a name server, and the replicas that its directory shows."""
        socket, keys = self.dial(attempt)
        frame = encode_join(
            Join(
                agent=attempt["agent"],
                replica=attempt["replica"],
                uid=attempt["uid"],
                start=1,
                issued=int(time.time()),
                key=keys.public if keys else "",
                host=attempt["host"],
                software="",
                token=attempt["token"].encode(),
            )
        )
        answers: list[str] = []
        peers: dict[str, Any] = {}
        reading = Beat(epoch="", seq=0, report=Report(phase="Ready", channels={"in": ChannelReport()}), parts={"in": Part("work", "Pull")})
        socket.send(frame)
        # Whatever it was told: it goes on as a member would.
        socket.send(encode(reading))
        deadline = time.monotonic() + WAIT_SECONDS
        while not peers and socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
            message = decode(socket.recv())
            answers.append(f"Refuse {message.reason}" if isinstance(message, Refuse) else type(message).__name__)
            if isinstance(message, Welcome):
                socket.send(encode(Beat(epoch=message.epoch, seq=0, report=reading.report, parts=reading.parts)))
            if isinstance(message, Directory):
                peers |= {peer.replica: {"key": peer.key, "host": peer.host} for peer in message.peers}
        return {"answers": sorted(set(answers)), "peers": peers}

    def data(self, attempt: dict[str, Any]) -> dict[str, Any]:
        """Frames of a data port, and whether its handshake ever succeeded."""
        socket, _ = self.dial(attempt)
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        fields = {"replica": attempt["replica"], "incarnation": [attempt["uid"], 1, 1], "host": "sidecar"}
        socket.send(frames.encode_control(frames.HELLO, fields))
        socket.send(frames.encode_data(1, 0, [b"forged"]))
        heard = []
        if socket.poll(int(WAIT_SECONDS * 1000)):
            heard.append(chr(frames.kind(socket.recv())))
        shaken = bool(monitor.poll(0))
        socket.disable_monitor()
        monitor.close(0)
        return {"heard": heard, "handshake": shaken}

    def close(self) -> None:
        for socket in self.kept:
            # Only a member's goodbye is taken for one; where the handshake failed there is nobody to say it to.
            with contextlib.suppress(zmq.Again):
                socket.send(encode(Bye(report=Report())), zmq.NOBLOCK)
            socket.close(500)


def main() -> int:
    """See the module."""
    context = make_context()
    stranger = Stranger(context)
    results = [(stranger.join if attempt["at"] == "join" else stranger.data)(attempt) for attempt in json.loads(sys.argv[1])]
    print(json.dumps(results), flush=True)
    stranger.close()
    context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main())
