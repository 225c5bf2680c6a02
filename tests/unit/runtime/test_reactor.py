"""The reactor: no input is missed, blocking calls serve what they must, and everything can be stopped."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
import zmq

from ganglion.runtime.errors import ChannelClosed
from ganglion.runtime.loop import DataLoop
from ganglion.runtime.reactor import NOBLOCK, Reactor, readable
from ganglion.runtime.sockets import Context, Socket, make_context
from tests.support.aio import eventually


class Echo:
    """A source that collects, and may answer each message."""

    def __init__(self, socket: Socket, *, answer: bool = False) -> None:
        self.socket = socket
        self.answer = answer
        self.got: list[bytes] = []
        self.ticks = 0

    @property
    def sockets(self) -> list[Socket]:
        return [self.socket]

    def drain(self, budget: int) -> bool:
        try:
            for _ in range(budget):
                self.got.append(self.socket.recv(NOBLOCK))
                if self.answer:
                    self.socket.send(self.got[-1], NOBLOCK)
        except zmq.Again:
            return False
        return True

    def tick(self, now: float) -> None:
        self.ticks += 1
        assert now <= time.monotonic()


_open: list[Socket] = []


def _pair(context: Context, name: str) -> tuple[Socket, Socket]:
    sockets = []
    for connect in (False, True):
        socket = context.socket(zmq.PAIR)
        socket.sndhwm = socket.rcvhwm = 0
        (socket.connect if connect else socket.bind)(f"inproc://{name}")
        sockets.append(socket)
        _open.append(socket)
    return sockets[0], sockets[1]


def _with_reactor(test: Callable[[Reactor, Context], object]) -> None:
    async def main() -> None:
        context = make_context()
        reactor = Reactor(asyncio.get_running_loop(), tick_seconds=0.01)
        try:
            result = test(reactor, context)
            if asyncio.iscoroutine(result):
                await result
        finally:
            reactor.close()
            reactor.close()
            while _open:
                _open.pop().close(0)
            context.term()

    for factory in (asyncio.SelectorEventLoop, DataLoop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())


def test_ping_pong_between_two_sources_misses_no_edge() -> None:
    async def test(reactor: Reactor, context: Context) -> None:
        a, b = _pair(context, "x")
        left, right = Echo(a, answer=True), Echo(b, answer=True)
        reactor.add(left, pumped=False)
        reactor.add(right, pumped=False)
        for number in range(7):
            a.send(b"%d" % number)
        await eventually(lambda: len(left.got) > 5000)
        assert abs(len(left.got) - len(right.got)) <= 7 * 32

    _with_reactor(test)


def test_more_input_than_the_budget_is_drained_without_another_edge() -> None:
    async def test(reactor: Reactor, context: Context) -> None:
        a, b = _pair(context, "x")
        for _ in range(10_000):
            a.send(b"x")
        sink = Echo(b)
        reactor.add(sink, pumped=False)
        await eventually(lambda: len(sink.got) == 10_000)

    _with_reactor(test)


def test_timers_run_in_a_busy_loop() -> None:
    async def test(reactor: Reactor, context: Context) -> None:
        a, b = _pair(context, "x")
        left, right = Echo(a, answer=True), Echo(b, answer=True)
        reactor.add(left, pumped=False)
        reactor.add(right, pumped=False)
        hooked: list[float] = []
        reactor.on_tick(hooked.append)
        a.send(b"for ever")
        await eventually(lambda: left.ticks > 5 and hooked)
        reactor.off_tick(hooked.append)

    _with_reactor(test)


def test_a_thread_may_wake_a_reactor_that_is_being_closed() -> None:
    """The control thread is stopped after it: the number of the closed pipe may be somebody else's by then."""
    loop = asyncio.new_event_loop()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            for _ in range(2000):
                reactor = Reactor(loop)
                over = threading.Event()

                def hammer(reactor: Reactor = reactor, over: threading.Event = over) -> None:
                    while not over.is_set():
                        reactor.wake()

                hammering = pool.submit(hammer)
                reactor.close()
                over.set()
                hammering.result(10)
    finally:
        sys.setswitchinterval(before)
        loop.close()


def test_slow_handlers_leave_the_loop_its_turns() -> None:
    """A turn goes on while there is input, but not for seconds: timers, other sockets and orders wait meanwhile."""

    class Slow:
        drains = 0
        sockets: ClassVar[list[Socket]] = []

        def drain(self, budget: int) -> bool:
            self.drains += 1
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                pass
            return True

        def tick(self, now: float) -> None:
            pass

    async def test(reactor: Reactor, _context: Context) -> None:
        slow = Slow()
        reactor.add(slow, pumped=False)
        await eventually(lambda: slow.drains > 0)
        for _ in range(10):
            before = slow.drains
            await asyncio.sleep(0)
            # 50 ms are three of them.
            assert slow.drains - before <= 2 * 3

    _with_reactor(test)


def test_flush_runs_after_input_has_drained() -> None:
    async def test(reactor: Reactor, context: Context) -> None:
        a, b = _pair(context, "x")
        sink = Echo(b)
        flushed: list[int] = []
        reactor.on_flush(lambda: flushed.append(len(sink.got)))
        for _ in range(5):
            a.send(b"x")
        reactor.add(sink, pumped=False)
        await eventually(lambda: 5 in flushed)
        assert 0 not in flushed[flushed.index(5) :]

    _with_reactor(test)


def test_a_removed_source_is_left_alone() -> None:
    async def test(reactor: Reactor, context: Context) -> None:
        a, b = _pair(context, "x")
        gone, kept = Echo(b), Echo(_pair(context, "y")[0])
        reactor.add(gone, pumped=True)
        reactor.add(kept, pumped=True)
        reactor.remove(gone)
        reactor.remove(gone)
        a.send(b"x")
        await eventually(lambda: kept.ticks > 3)
        assert gone.got == []
        assert readable(b)

    _with_reactor(test)


def test_pump_serves_pumped_sources_only_until_the_condition_holds() -> None:
    def test(reactor: Reactor, context: Context) -> None:
        a, b = _pair(context, "x")
        c, d = _pair(context, "y")
        pumped, handlers = Echo(b), Echo(d)
        reactor.add(pumped, pumped=True)
        reactor.add(handlers, pumped=False)
        c.send(b"input")
        sender = threading.Thread(target=lambda: [a.send(b"ack") for _ in range(3)])
        sender.start()
        assert reactor.pump(lambda: len(pumped.got) == 3, time.monotonic() + 20)
        sender.join()
        assert handlers.got == []
        assert not reactor.pump(lambda: False, time.monotonic() + 0.03)

    _with_reactor(test)


def test_pump_ends_when_it_is_stopped_by_another_thread() -> None:
    def test(reactor: Reactor, _context: Context) -> None:
        thread = threading.Timer(0.05, reactor.stop, ["leaving"])
        thread.start()
        with pytest.raises(ChannelClosed, match="leaving"):
            reactor.pump(lambda: False, time.monotonic() + 20)
        thread.join()
        assert reactor.stopped
        with pytest.raises(ChannelClosed):
            reactor.pump(lambda: True, None)
        reactor.resume()
        assert reactor.pump(lambda: True, None)

    _with_reactor(test)


def test_what_pump_did_not_serve_is_served_by_the_loop() -> None:
    async def test(reactor: Reactor, context: Context) -> None:
        c, d = _pair(context, "y")
        handlers = Echo(d)
        reactor.add(handlers, pumped=False)
        await eventually(lambda: handlers.ticks > 0)
        c.send(b"input")
        # Reading its state swallows the edge.
        assert readable(d)
        reactor.pump(lambda: False, time.monotonic() + 0.02)
        await eventually(lambda: handlers.got == [b"input"])

    _with_reactor(test)


def test_serve_takes_what_is_there_without_waiting() -> None:
    def test(reactor: Reactor, context: Context) -> None:
        a, b = _pair(context, "x")
        source = Echo(b)
        reactor.add(source, pumped=True)
        a.send(b"x")
        reactor.serve()
        assert source.got == [b"x"]

    _with_reactor(test)
