"""Handler forms: each is called with what it takes, and a wrong one is named at once."""

from __future__ import annotations

import asyncio
import functools
import operator
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest

from ganglion.sdk.errors import HandlerError
from ganglion.sdk.handlers import Handlers, resolve


class Owner:
    """An agent stand-in that notes its calls."""

    label = "x"

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def plain(self, message: Any) -> str:
        self.calls.append(("plain", message))
        return "result"

    def with_topic(self, message: Any, topic: bytes) -> None:
        self.calls.append(("with_topic", message, topic))

    def maybe_topic(self, message: Any, topic: bytes = b"none") -> None:
        self.calls.append(("maybe_topic", message, topic))

    @staticmethod
    def static(message: Any) -> Any:
        return ("static", message)

    async def later(self, message: Any) -> str:
        await asyncio.sleep(0)
        self.calls.append(("later", message))
        return "late"

    def none(self) -> None: ...

    def three(self, a: Any, b: Any, c: Any) -> None: ...

    def keyword(self, message: Any, *, needed: int) -> None: ...

    def yields(self, message: Any) -> Iterator[Any]:
        yield message

    async def yields_later(self, message: Any) -> AsyncIterator[Any]:
        yield message


class Yielding:
    """An object that is called."""

    def __call__(self, agent: Owner, message: Any) -> Iterator[Any]:
        yield message


def yields_with(prefix: str, agent: Owner, message: Any) -> Iterator[Any]:
    yield prefix, message


def function(agent: Owner, message: Any) -> None:
    agent.calls.append(("function", message))


def function_with_topic(agent: Owner, message: Any, topic: bytes) -> None:
    agent.calls.append(("function_with_topic", message, topic))


def _resolve(owner: Owner, handlers: Handlers, *, topics: bool = False, may_yield: bool = False) -> Callable[..., Any]:
    return resolve(owner, {"function": function, "number": 3}, handlers, topics=topics, may_yield=may_yield)


def test_a_name_is_a_method_first_and_a_function_of_the_module_second() -> None:
    owner = Owner()
    assert _resolve(owner, "plain")(1) == "result"
    _resolve(owner, "function")(2)
    assert owner.calls == [("plain", 1), ("function", 2)]


def test_a_bound_method_is_called_directly() -> None:
    owner = Owner()
    assert _resolve(owner, owner.plain) == owner.plain


def test_functions_get_the_agent_unless_they_take_one_argument() -> None:
    owner = Owner()
    _resolve(owner, function)(1)
    assert _resolve(owner, lambda message: message + 1)(1) == 2
    assert _resolve(owner, lambda agent, message: (agent, message))(1) == (owner, 1)
    assert _resolve(owner, functools.partial(operator.add, 5))(1) == 6
    assert _resolve(owner, "static")(1) == ("static", 1)
    assert owner.calls == [("function", 1)]


@pytest.mark.parametrize(
    ("handler", "call"),
    [
        ("plain", ("plain", 1)),
        ("with_topic", ("with_topic", 1, b"t")),
        ("maybe_topic", ("maybe_topic", 1, b"t")),
        (function, ("function", 1)),
        (function_with_topic, ("function_with_topic", 1, b"t")),
    ],
)
def test_a_subscription_gives_the_topic_to_those_who_take_it(handler: Handlers, call: tuple[Any, ...]) -> None:
    owner = Owner()
    _resolve(owner, handler, topics=True)(b"t", 1)
    assert owner.calls == [call]


def test_every_matching_prefix_of_a_mapping_is_called_in_order() -> None:
    owner = Owner()
    table: Mapping[str | bytes, Any] = {"": "plain", "fo": "with_topic", b"\x80\xff": function, "bar": "plain"}
    handler = _resolve(owner, table, topics=True)
    handler(b"foo", 1)
    handler(b"\x80\xff\x00", 2)
    assert owner.calls == [("plain", 1), ("with_topic", 1, b"foo"), ("plain", 2), ("function", 2)]


def test_a_list_is_called_in_order_and_waits_for_coroutines() -> None:
    owner = Owner()
    result = _resolve(owner, ["plain", "later", function])(1)
    assert owner.calls == [("plain", 1)]
    asyncio.run(_await(result))
    assert owner.calls == [("plain", 1), ("later", 1), ("function", 1)]


async def _await(awaitable: Any) -> Any:
    return await awaitable


def test_coroutine_functions_stay_coroutine_functions() -> None:
    owner = Owner()
    assert asyncio.run(_await(_resolve(owner, "later")(1))) == "late"


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        ("missing", "Owner has no method 'missing'"),
        ("number", "Owner has no method 'number'"),
        ("label", "attribute of type str, not a method"),
        ("none", "requires 0 arguments and takes at most 0"),
        ("three", "requires 3 arguments"),
        ("keyword", "requires 99"),
        (5, "found a int"),
        ([], "found a list"),
        ([5], "found a int"),
        ({"": "plain"}, "only a Sub role has topics"),
        (lambda: None, "is called with \\(agent, message\\)"),
    ],
)
def test_what_cannot_be_a_handler_is_named(handler: Any, text: str) -> None:
    with pytest.raises(HandlerError, match=text):
        _resolve(Owner(), handler)


YIELDING: list[Any] = ["yields", Yielding(), functools.partial(yields_with, "a")]


@pytest.mark.parametrize("handler", YIELDING)
def test_a_generator_may_only_reply(handler: Any) -> None:
    owner = Owner()
    assert next(_resolve(owner, handler, may_yield=True)(1)) in (1, ("a", 1))
    assert next(_resolve(owner, [handler], may_yield=True)(1)) in (1, ("a", 1))
    wheres: list[tuple[Any, bool]] = [(handler, False), (handler, True), ({"a": handler}, True), ([handler], False)]
    for where, topics in wheres:
        with pytest.raises(
            HandlerError, match=r"handler '(yields|Yielding|partial)' yields, which only the one handler of a Rep may do; .* send\(\)"
        ):
            _resolve(owner, where, topics=topics)
    with pytest.raises(HandlerError, match="only the one handler"):
        # The results of several are nobody's reply.
        _resolve(owner, ["plain", handler], may_yield=True)


@pytest.mark.parametrize("may_yield", [True, False])
def test_a_coroutine_that_yields_is_refused_everywhere(may_yield: bool) -> None:
    with pytest.raises(HandlerError, match="'yields_later' is an `async def` that yields, which nothing would run; "):
        _resolve(Owner(), "yields_later", may_yield=may_yield)
