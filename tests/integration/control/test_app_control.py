"""control.sock: a sidecar's end in this process, real agent processes and hooks at the other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from ganglion.runtime.app_control import AppControl, AppListener
from ganglion.runtime.control import ControlThread, SidecarUplink
from ganglion.runtime.sockets import Context, Socket, ipc_endpoint, make_context, make_ipc_socket
from ganglion.wire.control import (
    AppBye,
    AppHello,
    ChannelReport,
    ChannelState,
    Command,
    Drain,
    Drained,
    Incarnation,
    Notice,
    Peer,
    PeerChannel,
    Refuse,
    Report,
    decode,
    encode,
)
from tests.support.nameserver import Heard, LoopThread
from tests.support.wait import wait_for

APP = """
import asyncio, sys
from pathlib import Path
from ganglion.runtime.control import ControlThread, ControlListener, SidecarUplink
from ganglion.wire.control import Report
async def main():
    done = asyncio.Event()
    listener = ControlListener(print, lambda *a: None, lambda c: done.set(), print)
    control = ControlThread(SidecarUplink(Path(sys.argv[1]), "worker-0", 7, "K"), loop=asyncio.get_running_loop(),
                            report=lambda: Report(phase="Ready"), listener=listener)
    control.start()
    await done.wait()
    print(await control.bye(True, 5))
    control.stop()
asyncio.run(main())
"""


def peer(index: int, port: int = 1) -> Peer:
    return Peer(
        agent="source",
        replica=f"source-{index}",
        incarnation=Incarnation("u", 1, 1),
        host="127.0.0.1",
        key="k" * 40,
        channels={"lines": PeerChannel(role="Push", port=port)},
    )


class Sidecar:
    """An AppControl in a loop of its own, and what it heard."""

    def __init__(self, path: Path, context: Context, thread: LoopThread) -> None:
        self.hellos: list[AppHello] = []
        self.reports: list[Report] = []
        self.byes: list[AppBye] = []
        self.notices: list[Notice] = []
        self.drains: list[float] = []
        self.lost = 0
        self._thread = thread

        def lost() -> None:
            self.lost += 1

        listener = AppListener(self.hellos.append, self.reports.append, self.byes.append, lost, self.drains.append, self.notices.append)

        async def make() -> AppControl:
            return AppControl(context, path, replica="worker-0", listener=listener)

        self.control = asyncio.run_coroutine_threadsafe(make(), thread.loop).result(10)

    def call(self, function: Callable[..., None], *args: object) -> None:
        async def run() -> None:
            function(*args)

        asyncio.run_coroutine_threadsafe(run(), self._thread.loop).result(10)

    def close(self) -> None:
        self.call(self.control.close)


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gct") as name:
        yield Path(name) / "control.sock"


@pytest.fixture
def context() -> Iterator[Context]:
    made = make_context()
    yield made
    made.term()


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    made.close()


@pytest.fixture
def sidecar(path: Path, context: Context, thread: LoopThread) -> Iterator[Sidecar]:
    made = Sidecar(path, context, thread)
    yield made
    made.close()


class App:
    """A control thread of an SDK process, in this process."""

    def __init__(self, path: Path, thread: LoopThread) -> None:
        self.heard = Heard()
        self.report = Report(phase="Ready")
        self.control = ControlThread(
            SidecarUplink(path, "worker-0", os.getpid(), "key"), loop=thread.loop, report=lambda: self.report, listener=self.heard.listener
        )
        self.control.start()


@pytest.fixture
def app(path: Path, thread: LoopThread, sidecar: Sidecar) -> Iterator[App]:
    made = App(path, thread)
    wait_for(lambda: sidecar.reports, what="the first report")
    yield made
    made.control.stop()


def test_hello_report_directory_command_goodbye(sidecar: Sidecar, app: App, thread: LoopThread) -> None:
    assert (sidecar.hellos[0].key, sidecar.hellos[0].pid) == ("key", os.getpid())
    sidecar.call(sidecar.control.set_directory, {"source-0": peer(0)}, {"lines": ChannelState()})
    wait_for(lambda: "source-0" in app.heard.peers, what="the snapshot")
    sidecar.call(sidecar.control.set_directory, {"source-0": peer(0, port=9), "source-1": peer(1)}, {"lines": ChannelState(ended=True)})
    wait_for(lambda: len(app.heard.peers) == 2, what="the delta")
    assert app.heard.peers["source-0"].channels["lines"].port == 9
    assert app.heard.channels["lines"].ended
    sidecar.call(sidecar.control.set_directory, {"source-1": peer(1)}, {"lines": ChannelState(ended=True)})
    wait_for(lambda: list(app.heard.peers) == ["source-1"], what="the departure")
    app.report = Report(phase="AtRest", channels={"in": ChannelReport(delivered=3)})
    app.control.poke()
    wait_for(lambda: sidecar.reports[-1].phase == "AtRest", what="the report of another kind")
    sidecar.call(sidecar.control.log_level, "Debug")
    wait_for(lambda: app.heard.levels == ["Debug"], what="the level")
    app.control.notice(Notice(reason="DeadLettered", channel="lines", message="m"))
    wait_for(lambda: sidecar.notices, what="the notice")
    sidecar.call(sidecar.control.command, Command(kind="Shutdown", deadline_seconds=5))
    wait_for(lambda: app.heard.commands, what="the command")
    assert asyncio.run_coroutine_threadsafe(app.control.bye(True, 5), thread.loop).result(10)
    assert sidecar.byes[0].completed
    assert sidecar.lost == 0


def test_a_process_that_comes_later_is_told_the_level(sidecar: Sidecar, path: Path, thread: LoopThread) -> None:
    sidecar.call(sidecar.control.log_level, "Debug")
    app = App(path, thread)
    try:
        wait_for(lambda: app.heard.levels == ["Debug"], what="the level")
    finally:
        app.control.stop()


def test_sidecar_restart_keeps_the_directory(path: Path, context: Context, thread: LoopThread) -> None:
    first = Sidecar(path, context, thread)
    app = App(path, thread)
    try:
        wait_for(lambda: first.hellos, what="hello")
        first.call(first.control.set_directory, {"source-0": peer(0)}, {})
        wait_for(lambda: app.heard.peers, what="the directory")
        first.close()
        wait_for(lambda: app.heard.lost, what="the loss")
        second = Sidecar(path, context, thread)
        try:
            wait_for(lambda: second.reports, what="hello to the new sidecar")
            assert list(app.heard.peers) == ["source-0"]
            second.call(second.control.set_directory, {"source-0": peer(0, port=5)}, {})
            wait_for(lambda: app.heard.peers["source-0"].channels["lines"].port == 5, what="news")
        finally:
            second.close()
    finally:
        app.control.stop()


def _spawn(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", APP, str(path)], stdout=subprocess.PIPE, text=True)


def test_killed_process_is_noticed_and_its_successor_served(sidecar: Sidecar, path: Path) -> None:
    with _spawn(path) as first:
        wait_for(lambda: sidecar.reports, what="the first process")
        first.kill()
    wait_for(lambda: sidecar.lost == 1, what="the loss")
    with _spawn(path) as second:
        wait_for(lambda: len(sidecar.hellos) == 2, what="the second process")
        sidecar.call(sidecar.control.command, Command(kind="Leave", deadline_seconds=5))
        wait_for(lambda: sidecar.byes, what="goodbye")
        assert second.wait(10) == 0
        assert second.stdout is not None
        assert "True" in second.stdout.read()
    assert sidecar.lost == 1


def test_busy_main_thread_does_not_stop_reports_or_signals(sidecar: Sidecar, path: Path) -> None:
    code = """
import asyncio, signal, sys
from pathlib import Path
from ganglion.runtime.control import ControlThread, ControlListener, SidecarUplink
from ganglion.wire.control import Report
async def main():
    control = ControlThread(SidecarUplink(Path(sys.argv[1]), "worker-0", 7), loop=asyncio.get_running_loop(),
                            report=lambda: Report(phase="Ready"), listener=ControlListener(print, print, print, print))
    control.start()
    control.watch_signals({signal.SIGTERM}, lambda number: None, grace=0.5)
    while True:
        pass
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as process:
        wait_for(lambda: len(sidecar.reports) >= 3, what="reports of a busy process")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1


def _hook(context: Context, path: Path) -> Socket:
    socket = make_ipc_socket(context, zmq.DEALER)
    socket.connect(ipc_endpoint(path))
    return socket


def test_drain_hooks_are_answered(sidecar: Sidecar, app: App, context: Context, path: Path) -> None:
    hook = _hook(context, path)
    hook.send(encode(Drain(deadline_seconds=7)))
    wait_for(lambda: sidecar.drains == [7], what="the hook")
    sidecar.call(sidecar.control.drained, True)
    assert hook.poll(5000)
    assert decode(hook.recv()) == Drained(at_rest=True)
    hook.close()
    late = _hook(context, path)
    late.send(encode(Drain(deadline_seconds=7)))
    assert late.poll(5000)
    assert decode(late.recv()) == Drained(at_rest=True)
    late.close()
    assert sidecar.control.connected
    assert sidecar.lost == 0


def test_stranger_and_garbage_are_refused(sidecar: Sidecar, context: Context, path: Path) -> None:
    stranger = _hook(context, path)
    stranger.send(b"\xff\x00garbage")
    stranger.send(encode(Notice(reason="Fake", channel="", message="")))
    assert stranger.poll(5000)
    answer = decode(stranger.recv())
    assert isinstance(answer, Refuse)
    assert answer.retry
    stranger.send(encode(AppHello(version=99, pid=1)))
    assert stranger.poll(5000)
    answer = decode(stranger.recv())
    assert isinstance(answer, Refuse)
    assert not answer.retry
    stranger.close()
    assert not sidecar.notices
