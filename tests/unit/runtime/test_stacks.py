"""Stacks on demand: real processes that hang in every way there is. None of them is ended or disturbed by being asked."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ganglion.runtime import stacks
from ganglion.runtime.stacks import StacksUnavailable, ask
from tests.support.wait import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory files and real-time signals are Linux's")

SLEEPS = "import time; ready(); time.sleep(60)"
COMPUTES = "ready()\nwhile True: pass"
HOLDS_THE_LOCK = "ready(); sum(range(10**15))"
WAITS = """
import asyncio
async def inner(): ready(); await asyncio.Event().wait()
async def outer(): await inner()
loop = asyncio.new_event_loop(); stacks.install(loops=(loop,))
loop.create_task(outer(), name="patient")
loop.run_forever()
"""
THREADS = """
import threading
threading.Thread(target=threading.Event().wait, name="helper", daemon=True).start()
ready(); threading.Event().wait()
"""
MISSES_ONE = f"""
import signal, time
seen = []
signal.signal({stacks.SIGNAL}, lambda number, frame: stacks._signalled(number, frame) if seen else seen.append(number))
ready(); time.sleep(60)
"""
IGNORES = "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); ready(); time.sleep(60)"


@contextmanager
def process(code: str, *, installed: bool = True) -> Iterator[subprocess.Popen[str]]:
    start = f"from ganglion.runtime import stacks\ndef ready(): print('ready', flush=True)\n{'stacks.install()' if installed else ''}\n"
    with subprocess.Popen([sys.executable, "-c", start + code], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
            assert child.poll() is None, "being asked has ended it"
        finally:
            child.kill()


def _shown(pid: int, *parts: str, timeout: float = 10.0) -> str:
    """The answer that has all of this: when it says that it is ready, the process has a few steps to go."""

    def answer() -> str:
        text = ask(pid, timeout=timeout)
        return text if all(part in text for part in parts) else ""

    return wait_for(answer, what=f"{parts} in the stacks")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (SLEEPS, ["Thread MainThread:", 'File "<string>"']),
        (COMPUTES, ["Thread MainThread:", 'File "<string>"']),
        (WAITS, ["Task patient, waits:", "in outer", "in inner", "in wait"]),
        (THREADS, ["Thread helper, daemon:", "in wait", "Thread MainThread:"]),
    ],
    ids=["sleeps", "computes", "waits", "threads"],
)
def test_where_it_is(code: str, expected: list[str]) -> None:
    with process(code) as child:
        first = _shown(child.pid, *expected)
        second = ask(child.pid)
    assert "fault handler" not in first
    assert first.count("Thread MainThread") == second.count("Thread MainThread") == 1
    assert "_signalled" not in first


def test_a_signal_that_is_not_noticed_is_sent_again() -> None:
    """One that comes between the interpreter's last look and a system call is noticed when that ends, or with the next one."""
    with process(MISSES_ONE) as child:
        assert "fault handler" not in ask(child.pid, timeout=10.0)


def test_an_extension_that_holds_the_interpreter_lock() -> None:
    with process(HOLDS_THE_LOCK) as child:
        text = _shown(child.pid, "could not describe itself within 0.3 s", timeout=0.3)
    assert 'File "<string>", line 4 in <module>' in text


def test_who_does_not_answer_is_told_with_its_state() -> None:
    with process(IGNORES) as child:
        wait_for(lambda: "\nState:\tS" in Path(f"/proc/{child.pid}/status").read_text(), what="it to sleep")
        with pytest.raises(StacksUnavailable, match=r"did not answer within 0.2 s; its state is S \(sleeping\)"):
            ask(child.pid, timeout=0.2)
    with process(SLEEPS) as child:
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(StacksUnavailable, match="stopped"):
            ask(child.pid, timeout=0.2)
        child.send_signal(signal.SIGCONT)
        assert "MainThread" in ask(child.pid)


def test_a_stranger_is_left_alone() -> None:
    with process(SLEEPS, installed=False) as child, pytest.raises(StacksUnavailable, match="runs no agent"):
        ask(child.pid)
    with process(SLEEPS) as child, pytest.raises(StacksUnavailable, match="runs no agent"):
        ask(child.pid, "ganglion-stacks-of-another")


def test_who_has_ended_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait(10)
        with pytest.raises(StacksUnavailable, match="has ended"):
            ask(child.pid)


def test_the_file_does_not_grow_for_ever() -> None:
    with process(f"stacks.MAX_FILE_BYTES = 1000; {SLEEPS}") as child:
        # Not before it sleeps: its steps until then differ.
        text = wait_for(lambda: found if "in ready" not in (found := ask(child.pid)) else "", what="a process that stays where it is")
        for _ in range(2000 // len(text) + 5):
            assert ask(child.pid) == text
        found = stacks._memory_file(child.pid, stacks.NAME)
        assert found is not None
        assert found.stat().st_size < 1000 + 2 * len(text)


def test_a_question_that_comes_when_the_interpreter_has_given_up_its_handlers_kills_nobody() -> None:
    # Module globals are destroyed after the handlers of signals are.
    code = f"""
import os
from ganglion.runtime import stacks
class Last:
    def __del__(self, kill=os.kill, me=os.getpid(), number={stacks.SIGNAL}): kill(me, number)
stacks.install()
last = Last()
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=30, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
