"""When a process tells glibc to keep what it frees, and that it then has no page faults for large messages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ganglion.runtime.arena import (
    LARGE_BYTES,
    LARGE_SENT_BYTES,
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    MMAP_BYTES,
    TRIM_BYTES,
    Arenas,
    find_mallopt,
)

SET = [(M_MMAP_THRESHOLD, MMAP_BYTES), (M_TRIM_THRESHOLD, TRIM_BYTES)]


class _Mallopt:
    """Keeps what it was asked for."""

    def __init__(self, *, answer: int = 1) -> None:
        self.asked: list[tuple[int, int]] = []
        self.found = 0
        self._answer = answer

    def find(self) -> _Mallopt:
        self.found += 1
        return self

    def __call__(self, parameter: int, value: int) -> int:
        self.asked.append((parameter, value))
        return self._answer


def test_the_first_large_message_changes_the_limits_and_no_other_does() -> None:
    mallopt = _Mallopt()
    arenas = Arenas(mallopt.find, {})
    for size, messages in ((0, 1), (LARGE_BYTES - 1, 1), (64 * 1000, 64), (LARGE_BYTES * 2 - 1, 2)):
        assert not arenas.note(size, messages)
    assert mallopt.found == 0, "small messages cost nothing, not even the search"
    assert arenas.note(LARGE_BYTES)
    assert mallopt.asked == SET
    assert arenas.note(LARGE_BYTES * 3, 3)
    assert not arenas.note(1)
    assert (mallopt.found, mallopt.asked) == (1, SET)


def test_what_is_sent_is_large_when_glibc_would_map_it() -> None:
    mallopt = _Mallopt()
    arenas = Arenas(mallopt.find, {})
    arenas.note_sent(LARGE_SENT_BYTES - 1)
    arenas.note_sent(LARGE_SENT_BYTES, 2)
    assert mallopt.found == 0
    arenas.note_sent(LARGE_SENT_BYTES)
    arenas.note(LARGE_BYTES)
    assert (mallopt.found, mallopt.asked) == (1, SET)


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"MALLOC_MMAP_THRESHOLD_": "1"},
        {"MALLOC_TOP_PAD_": "1"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"},
    ],
)
def test_who_has_set_mallocs_variables_has_decided(environment: Mapping[str, str]) -> None:
    mallopt = _Mallopt()
    assert Arenas(mallopt.find, environment).note(LARGE_BYTES)
    assert mallopt.found == 0


def test_a_refused_limit_leaves_the_other_alone() -> None:
    mallopt = _Mallopt(answer=0)
    assert Arenas(mallopt.find, {}).note(LARGE_BYTES)
    assert mallopt.asked == SET[:1]


def test_without_glibc_nothing_happens() -> None:
    assert Arenas(lambda: None, {}).note(LARGE_BYTES)


PROGRAM = """
import resource, sys, threading, zmq
from ganglion.runtime import arena

context = zmq.Context()
out, into = context.socket(zmq.PUSH), context.socket(zmq.PULL)
out.bind("ipc://" + sys.argv[1])
into.connect("ipc://" + sys.argv[1])
into.rcvtimeo = 20000
body = bytes(65536)


def faults():
    # Bursts: what is freed after one is given back before the next.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        for _ in range(10):
            out.send(body)
        for _ in range(10):
            into.recv()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


found = []
for _ in range(2):
    faults()
    found.append(faults())
    arena.note(len(body))
print(*found)
context.destroy(0)
"""


@pytest.mark.skipif(find_mallopt() is None, reason="the C library has no mallopt")
def test_page_faults_of_large_messages_end(tmp_path: Path) -> None:
    # In a process of its own: what is changed cannot be taken back.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "s")], env={}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert before > 10 * (after + 20), f"400 messages of 64 KiB: {before} page faults before, {after} after"
