"""One process of a data-plane test: an agent or a sidecar with real sockets, whose directory is a folder of adverts.

`python -m tests.support.node` reads its configuration from stdin and runs until SIGTERM. What a sink handled is appended to a file with one write per message, so it survives
SIGKILL; what a source counts is published as a file that is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from ganglion.runtime.connections import DesiredPeer, zap_domain
from ganglion.runtime.endpoint_plane import BehindSidecar, EndpointPlane, InProcess
from ganglion.runtime.errors import ChannelClosed
from ganglion.runtime.links import Identity
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.plane import InletSpec, Reply
from ganglion.runtime.reactor import Reactor
from ganglion.runtime.relay import ReceiveRelay, SendRelay
from ganglion.runtime.sockets import Context, CurveKeys, make_context
from ganglion.runtime.zap import ZapHandler, ZapPolicy
from ganglion.wire.control import Incarnation
from ganglion.wiring import ChannelWiring
from tests.support.wirings import channel

POLL_SECONDS = 0.03


class ZapThread:
    """Answers handshakes, as the control thread does."""

    def __init__(self, context: Context) -> None:
        self.policy = ZapPolicy()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(context,), daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("ZAP thread did not start")

    def _run(self, context: Context) -> None:
        handler = ZapHandler(context, self.policy)
        self._ready.set()
        while not self._stop.is_set():
            if handler.socket.poll(50):
                handler.answer()
        handler.close()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(5)


class Node:
    """One process."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.name: str = config["name"]
        self.world = Path(config["world"])
        self.channels: tuple[ChannelWiring, ...] = tuple(
            channel(c.pop("alias"), c.pop("name"), c.pop("role"), **c) for c in config["channels"]
        )
        self.loop = asyncio.get_running_loop()
        self.reactor = Reactor(self.loop)
        self.context = make_context()
        self.curve = CurveKeys.generate() if config.get("curve", True) else None
        self.zap = ZapThread(self.context)
        start = int(config["start"])
        self.identity = Identity(self.name, Incarnation(self.name, start, 0), "sidecar" if config["kind"] == "sidecar" else "process")
        self.run_dir = Path(config["run_dir"])
        self.location = InProcess(self.identity, self.curve, "tcp://127.0.0.1")
        self.behind = config["kind"] == "behind"
        self.plane = EndpointPlane(
            self.reactor, self.context, self.channels, BehindSidecar(self.run_dir, self.name) if self.behind else self.location
        )
        self.relays: dict[str, SendRelay | ReceiveRelay] = {}
        self.stopping = asyncio.Event()
        # Not asyncio's handler: a source blocks the loop.
        signal.signal(signal.SIGTERM, lambda _number, _frame: self.stop())
        self.seen: dict[str, str] = {}

    def stop(self) -> None:
        self.reactor.stop()
        self.loop.call_soon_threadsafe(self.stopping.set)

    # -- directory

    def advertise(self) -> None:
        """Publish where this process listens, and follow what others publish."""
        if self.behind:
            return
        # Before anybody learns of us: a peer that comes earlier than its key is known waits for its next handshake.
        self.follow()
        ports = {alias: relay.port.tcp_port for alias, relay in self.relays.items()} | self.plane.listening()
        replace(
            self.world / "adverts" / f"{self.name}.json",
            {
                "replica": self.name,
                "start": self.identity.incarnation.start,
                "key": self.curve.public if self.curve else "",
                "channels": [[c.channel, c.role, ports.get(c.alias, 0)] for c in self.channels],
            },
        )
        self.reactor.on_tick(lambda _now: self.follow())

    def follow(self) -> None:
        """Apply the directory when it changed."""
        adverts = {path.name: path.read_text() for path in sorted((self.world / "adverts").glob("*.json"))}
        if adverts != self.seen:
            self.seen = adverts
            parsed = [json.loads(text) for text in adverts.values()]
            wanted = {mine.alias: self.peers_of(mine, parsed) for mine in self.channels}
            if self.curve:
                for mine in self.channels:
                    if mine.bind:
                        self.zap.policy.allow(zap_domain(mine), frozenset(peer.key for peer in wanted[mine.alias].values()))
            self.plane.apply(wanted)
            for alias, relay in self.relays.items():
                relay.port.set_peers(wanted[alias])

    @staticmethod
    def peers_of(mine: ChannelWiring, adverts: list[dict[str, Any]]) -> dict[str, DesiredPeer]:
        return {
            advert["replica"]: DesiredPeer(
                replica=advert["replica"],
                agent="",
                incarnation=Incarnation(advert["replica"], advert["start"], 0),
                key=advert["key"],
                endpoint=f"tcp://127.0.0.1:{port}" if port else "",
            )
            for advert in adverts
            for name, role, port in advert["channels"]
            if name == mine.channel and role == mine.peer_role
        }

    # -- programs

    def publish(self, name: str, value: Callable[[], Any]) -> None:
        """Keep a state file fresh."""
        self.reactor.on_tick(lambda _now: replace(self.world / "state" / f"{name}.json", value()))

    def log(self) -> Callable[[str], None]:
        """Append lines that survive SIGKILL."""
        out = os.open(self.world / "out" / f"{self.name}.{os.getpid()}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        return lambda line: void(os.write(out, line.encode() + b"\n"))

    def text_inlet(self, alias: str, handler: Callable[[str], Any], **spec: Any) -> None:
        self.plane.inlet(InletSpec(alias, lambda body: bytes(body).decode(), handler, **spec)).start()

    def source(self, count: int, pause: float = 0.0) -> None:
        """Send numbers, blocking; then END."""
        outlet = self.plane.outlet("out")
        self.publish(self.name, lambda: [*outlet.ledger().__class__.__struct_fields__, *state(outlet)])

        def run() -> None:
            with contextlib.suppress(ChannelClosed):
                for number in range(count):
                    outlet.send(f"{self.name}:{number}".encode())
                    if pause:
                        spin(pause)
            outlet.end()

        self.loop.call_later(POLL_SECONDS, run)

    def sink(self, pause: float = 0.0) -> None:
        """Log every message."""
        write = self.log()

        def handler(value: str) -> None:
            if pause:
                spin(pause)
            write(value)

        self.text_inlet("in", handler)

    def stage(self, pause: float = 0.0) -> None:
        """Pass on every message."""
        outlet = self.plane.outlet("out")

        def handler(value: str) -> None:
            if pause:
                spin(pause)
            outlet.send(value.encode())

        self.text_inlet("in", handler)

    def poison(self, victim: str) -> None:
        """Log, but one message kills the process."""
        write = self.log()

        def handler(value: str) -> None:
            if value == victim:
                os.kill(os.getpid(), signal.SIGKILL)
            write(value)

        self.text_inlet("in", handler)

    def replier(self, hang: str = "") -> None:
        """Answer with the question; one question never gets its answer."""

        def handler(value: str) -> Any:
            if value == hang:
                return self.loop.create_future()
            if value == "raise":
                raise ValueError("cannot answer that")
            return f"{self.name} {value}"

        self.text_inlet("rep", handler, encode=lambda value: str(value).encode())

    def requester(self, timeout: float = 30.0) -> None:
        """Ask what is written to a file, one line each, and log `question|outcome|seconds`."""
        outlet = self.plane.outlet("req")
        write = self.log()
        asked = self.world / "questions"
        done = 0

        def look() -> None:
            nonlocal done
            lines = asked.read_text().splitlines() if asked.exists() else []
            for line in lines[done:]:
                began = time.monotonic()

                def on_reply(reply: Reply, line: str = line, began: float = began) -> None:
                    outcome = bytes(reply.body).decode() if reply.body is not None else f"{type(reply.error).__name__}: {reply.error}"
                    write(f"{line}|{outcome}|{time.monotonic() - began:.2f}")

                outlet.request(line.encode(), timeout=timeout, on_reply=on_reply)
            done = len(lines)
            self.loop.call_later(POLL_SECONDS, look)

        self.publish(self.name, lambda: [*outlet.ledger().__class__.__struct_fields__, *state(outlet)])
        look()

    def sidecar(self) -> None:
        """Relays of all aliases."""
        for wiring in self.channels:
            relay = SendRelay if wiring.sends else ReceiveRelay
            self.relays[wiring.alias] = relay(self.reactor, self.context, wiring, self.location, self.run_dir)

    async def run(self) -> None:
        program = self.config.get("program", "sidecar")
        getattr(self, program)(**self.config.get("args", {}))
        self.advertise()
        await self.stopping.wait()
        self.plane.close()
        for relay in self.relays.values():
            relay.close()
        self.reactor.close()
        self.zap.stop()
        self.context.destroy(linger=0)


def state(outlet: Any) -> tuple[Any, ...]:
    """Counters of an outlet as plain values."""
    ledger = outlet.ledger()
    return (*(getattr(ledger, field) for field in ledger.__struct_fields__), outlet.ended, outlet.wired)


def spin(seconds: float) -> None:
    """Be a busy handler."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def void(_value: object) -> None:
    """Nothing."""


def replace(path: Path, value: Any) -> None:
    """Write a JSON file that readers see whole."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


async def _main() -> None:
    await Node(json.loads(sys.stdin.read())).run()


if __name__ == "__main__":
    assert zmq.has("curve")
    with asyncio.Runner(loop_factory=DataLoop) as runner:
        runner.run(_main())
