"""Where the code of a user is, in what a process says of its stacks."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

import ganglion
from ganglion.local.farewell import place

OURS = f"{Path(ganglion.__file__).parent}/sdk/dispatch.py"
STDLIB = f"{sysconfig.get_path('stdlib')}/threading.py"


def stack(thread: str, *frames: tuple[str, int, str]) -> str:
    return f"{thread}:\n" + "".join(f'  File "{file}", line {line}, in {name}\n    code()\n' for file, line, name in frames)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (stack("Thread MainThread", (OURS, 1, "run"), ("/app/agents.py", 7, "work"), (STDLIB, 3, "wait")), "in work, agents.py line 7"),
        (
            stack("Thread MainThread", (OURS, 1, "run")) + "\n" + stack("Task handler, waits", ("/app/agents.py", 9, "later")),
            "in later, agents.py line 9",
        ),
        (stack("Thread MainThread", (OURS, 1, "run"), ("<string>", 1, "f")), ""),
        (stack("Thread ganglion-control", ("/app/agents.py", 7, "work")), ""),
        ("", ""),
    ],
)
def test_the_innermost_line_of_the_users_own_is_named(text: str, expected: str) -> None:
    assert place(text) == expected
