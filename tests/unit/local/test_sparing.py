"""What Ganglion's own processes say again and again."""

from __future__ import annotations

from ganglion.local.sparing import Sparing
from ganglion.sdk.tracebacks import LINES, WINDOW_SECONDS


class Watched:
    """A Sparing, what it let pass, and its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen: list[str] = []
        self.sparing = Sparing(
            lambda replica, source, text: self.seen.append(f"{replica}/{source} | {text}"),
            lambda text: self.seen.append(f"warning: {text}"),
            self.seen.append,
            clock=lambda: self.now,
        )


def given_up(number: int) -> str:
    return f"2026-01-01T00:00:{number % 60:02}.000Z ERROR   source-0 channel tasks: message f60c7b592f75c372-{number} is given up"


def test_lines_that_differ_in_numbers_only_are_counted() -> None:
    watched = Watched()
    for number in range(100):
        watched.sparing.line("source-0", "runtime", given_up(number))
    assert watched.seen == [f"source-0/runtime | {given_up(number)}" for number in range(LINES)]
    other = "2026-01-01T00:00:00.000Z ERROR something else"
    watched.sparing.line("source-0", "runtime", other)
    watched.sparing.line("source-1", "runtime", given_up(0))
    assert watched.seen[LINES:] == [f"source-0/runtime | {other}", f"source-1/runtime | {given_up(0)}"]
    watched.now = WINDOW_SECONDS
    watched.sparing.line("source-0", "runtime", given_up(100))
    assert watched.seen[-2:] == [
        f"source-0/runtime: {100 - LINES} lines like the next were not shown; all: ganglion logs source-0 -c runtime",
        f"source-0/runtime | {given_up(100)}",
    ]


def test_what_user_code_prints_passes_untouched() -> None:
    watched = Watched()
    for number in range(100):
        watched.sparing.line("worker-0", "agent", f"task {number}")
    assert watched.seen == [f"worker-0/agent | task {number}" for number in range(100)]


def test_notices_that_differ_in_numbers_only_are_counted() -> None:
    watched = Watched()

    def notice(number: int, channel: str = "tasks") -> None:
        watched.sparing.notice("source-0", "DeadLettered", channel, f"message ab1-{number}: its handler raised")

    for number in range(50):
        notice(number)
    notice(0, "results")
    watched.now = WINDOW_SECONDS
    notice(50)
    text = "warning: source-0: DeadLettered: {}: message ab1-{}: its handler raised"
    assert watched.seen == [
        *(text.format("tasks", number) for number in range(LINES)),
        text.format("results", 0),
        f"{text.format('tasks', 50)}; {50 - LINES} more like it since the last line",
    ]


def test_each_replica_that_is_told_of_has_its_line_and_the_rest_is_told_in_the_end() -> None:
    watched = Watched()
    for number in range(8):
        watched.sparing.line("zoo-0", "nameserver", f"2026-01-01T00:00:00.000Z WARNING worker-{number}: nothing heard for 5.{number} s")
    assert len(watched.seen) == 8
    for number in range(LINES + 2):
        watched.sparing.line("zoo-0", "nameserver", f"2026-01-01T00:00:00.000Z WARNING worker-0: nothing heard for 7.{number} s")
    del watched.seen[:]
    watched.sparing.flush()
    assert watched.seen == []
    watched.sparing.flush(final=True)
    like = "WARNING worker-0: nothing heard for #.# s"
    assert watched.seen == [f"zoo-0/nameserver: 3 lines more like this one: {like}; all: ganglion logs zoo-0 -c nameserver"]
    watched.sparing.flush(final=True)
    assert len(watched.seen) == 1


def test_a_traceback_is_shown_whole_or_not_at_all() -> None:
    watched = Watched()
    follows = ["Traceback (most recent call last):", *(f'  File "a.py", line {line}, in work' for line in range(9)), "ValueError: 7"]
    for number in range(LINES + 1):
        for text in (given_up(number), *follows):
            watched.sparing.line("source-0", "runtime", text)
    assert len(watched.seen) == LINES * (1 + len(follows))
    watched.now += 2.0
    watched.sparing.line("source-0", "runtime", "Fatal Python error: Aborted")
    assert watched.seen[-1] == "source-0/runtime | Fatal Python error: Aborted"


def test_lines_for_programs_pass() -> None:
    watched = Watched()
    for number in range(50):
        watched.sparing.line("source-0", "runtime", f'{{"message": "{number}"}}')
    assert len(watched.seen) == 50
