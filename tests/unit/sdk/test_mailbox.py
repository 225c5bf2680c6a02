"""Polled messages: finished one behind, causal, handed back at the end."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from typing import Any

import pytest

from ganglion.runtime import causal
from ganglion.runtime.causal import Token
from ganglion.sdk.mailbox import HandedBack, Mailbox


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def _arrive(mailbox: Mailbox, value: Any, token: Token | None = None) -> asyncio.Future[Any]:
    def handle() -> asyncio.Future[Any]:
        causal.current.set(token)
        return mailbox.put(value)

    return contextvars.copy_context().run(handle)


def _token(seq: int) -> Token:
    return Token(lambda *_: None, "link", 1, seq)


def test_a_message_is_done_when_the_next_is_taken(loop: asyncio.AbstractEventLoop) -> None:
    woken: list[int] = []
    mailbox = Mailbox(loop, lambda: woken.append(1))
    first, second = _arrive(mailbox, "a"), _arrive(mailbox, "b")
    assert (len(mailbox), len(woken)) == (2, 2)
    assert mailbox.take() == "a"
    assert not first.done()
    assert mailbox.holds
    assert mailbox.take() == "b"
    assert first.done()
    assert not second.done()
    assert mailbox.finish("reply")
    assert second.result() == "reply"
    assert not mailbox.finish()


def test_what_is_sent_between_two_takes_belongs_to_the_first(loop: asyncio.AbstractEventLoop) -> None:
    def body() -> None:
        mailbox = Mailbox(loop, lambda: None)
        outer, one, two = _token(0), _token(1), _token(2)
        _arrive(mailbox, "a", one)
        _arrive(mailbox, "b", two)
        causal.current.set(outer)
        mailbox.take()
        assert causal.current.get() is one
        mailbox.take()
        assert causal.current.get() is two
        mailbox.finish()
        assert causal.current.get() is outer

    contextvars.copy_context().run(body)


def test_what_was_not_taken_is_handed_back(loop: asyncio.AbstractEventLoop) -> None:
    mailbox = Mailbox(loop, lambda: None)
    futures = [_arrive(mailbox, number) for number in range(3)]
    mailbox.take()
    mailbox.drop(HandedBack())
    assert all(isinstance(future.exception(), HandedBack) for future in futures)
    assert len(mailbox) == 0
    assert not mailbox.holds


def test_cancelled_messages_are_skipped(loop: asyncio.AbstractEventLoop) -> None:
    mailbox = Mailbox(loop, lambda: None)
    _arrive(mailbox, "gone").cancel()
    _arrive(mailbox, "here")
    assert mailbox.take() == "here"
