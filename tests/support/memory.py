"""What the data paths tell `ganglion.runtime.arena` of what they receive."""

from __future__ import annotations

import pytest

from ganglion.runtime import arena


def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(bytes of a frame, messages in it) as they are told from now on; the limits of this process stay as they are."""
    found: list[tuple[int, int]] = []

    def note(size: int, messages: int = 1) -> bool:
        found.append((size, messages))
        return size >= arena.LARGE_BYTES * messages

    monkeypatch.setattr(arena, "note", note)
    monkeypatch.setattr(arena, "note_sent", lambda _size, _messages=1: None)
    return found


def noted_as_sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """As `noted`, of what is sent."""
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(arena, "note_sent", lambda size, messages=1: found.append((size, messages)))
    return found
