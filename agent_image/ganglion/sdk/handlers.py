"""From what a user gives as a handler to what the data plane calls. Pure.

A handler may be
- the name of a method, or of a function of the agent's module (as in the manifest),
- a bound method: called with `(message)`, or `(message, topic)` when it takes two,
- any other callable (function, lambda, partial): called with `(agent, message)`, or `(agent, message, topic)`; with `(message)` when it
  takes one argument only,
- for Sub: a mapping topic prefix → handler; every prefix that matches is called, in the mapping's order,
- a list of handlers, called in order.
Each may be `async def`. A handler of requests may be a generator function: it yields its reply. Topics are bytes: a topic may hold any byte.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ganglion.sdk.errors import HandlerError, UnknownHandler

Handler = str | Callable[..., Any]
Handlers = Handler | Sequence[Handler] | Mapping[str | bytes, Handler]
Resolved = Callable[..., Any]
"""`(value)`; for Sub `(topic, value)`."""


def topic_bytes(topic: str | bytes) -> bytes:
    """A topic as it travels: text in UTF-8, bytes as they are."""
    return topic.encode() if isinstance(topic, str) else bytes(topic)


def _positional(function: Callable[..., Any]) -> tuple[int, int] | None:
    """(required, most) positional parameters; None when the callable does not tell (some built-ins)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    required = sum(p.default is inspect.Parameter.empty for p in positional)
    if any(p.kind is inspect.Parameter.KEYWORD_ONLY and p.default is inspect.Parameter.empty for p in parameters):
        return (99, 99)
    return required, 99 if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters) else len(positional)


def _named(agent: object, module: Mapping[str, Any], name: str) -> tuple[Callable[..., Any], bool]:
    """The callable with this name, and whether it belongs to the agent (and so needs no agent argument)."""
    found = getattr(agent, name, None)
    if found is not None and not name.startswith("__"):
        if not callable(found):
            raise HandlerError(f"{name!r} is an attribute of type {type(found).__name__}, not a method")
        return found, True
    function = module.get(name)
    if callable(function):
        return function, False
    kind = type(agent).__name__
    raise UnknownHandler(f"{kind} has no method {name!r}, and its module has no such function")


def _refuse_generators(function: Callable[..., Any], label: str, *, may_yield: bool) -> None:
    """A generator that nobody advances would run not one line, without a word."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        # An object that can be called; of a class it is the constructor, which is no generator function.
        function = type(function).__call__
    if inspect.isasyncgenfunction(function):
        advice = "return the reply, or yield it from a plain `def`" if may_yield else "return instead, and send() what it yields"
        raise HandlerError(f"handler {label!r} is an `async def` that yields, which nothing would run; {advice}")
    if not may_yield and inspect.isgeneratorfunction(function):
        raise HandlerError(
            f"handler {label!r} yields, which only the one handler of a Rep may do; nothing would run it: return instead, and send() what it yields"
        )


def _one(agent: object, module: Mapping[str, Any], handler: Handler, *, topics: bool, may_yield: bool) -> Resolved:
    if isinstance(handler, str):
        function, own = _named(agent, module, handler)
    elif callable(handler):
        function, own = handler, inspect.ismethod(handler)
    else:
        raise HandlerError(f"found a {type(handler).__name__}; a handler is a function, a method or the name of one")
    label = getattr(function, "__name__", type(function).__name__)
    _refuse_generators(function, label, may_yield=may_yield)
    counts = _positional(function)
    wanted = 1 if own else 2
    if counts is None:
        counts = (wanted, wanted)
    required, most = counts
    if not own and most == 1:
        own, wanted = True, 1
    if required > wanted + topics or most < wanted:
        takes = "(message)" if own else "(agent, message)"
        more = (" or (message, topic)" if own else " or (agent, message, topic)") if topics else ""
        raise HandlerError(f"handler {label!r} requires {required} arguments and takes at most {most}; it is called with {takes}{more}")
    bound = function if own else functools.partial(function, agent)
    if not topics:
        return bound
    if (most > wanted and most != 99) or required > wanted:
        return lambda topic, value: bound(value, topic)
    return lambda topic, value: bound(value)


async def _finish(first: Awaitable[Any], rest: Sequence[Resolved], arguments: tuple[Any, ...]) -> None:
    await first
    for handler in rest:
        result = handler(*arguments)
        if inspect.isawaitable(result):
            await result


def _in_order(handlers: Sequence[Resolved], arguments: tuple[Any, ...]) -> Awaitable[None] | None:
    for index, handler in enumerate(handlers):
        result = handler(*arguments)
        if inspect.isawaitable(result):
            return _finish(result, handlers[index + 1 :], arguments)
    return None


def _by_topic(handlers: Sequence[tuple[bytes, Resolved]]) -> Resolved:
    def call(topic: bytes, value: Any) -> Awaitable[None] | None:
        return _in_order([handler for prefix, handler in handlers if topic.startswith(prefix)], (topic, value))

    return call


def resolve(agent: object, module: Mapping[str, Any], handlers: Handlers, *, topics: bool, may_yield: bool) -> Resolved:
    """What the data plane calls for each message.

    Args:
        agent: first argument of plain functions; owner of methods given by name.
        module: names of the agent's module, for functions given by name.
        handlers: see the module's docstring.
        topics: the role is Sub: messages come with a topic.
        may_yield: what a generator yields is a reply.
    Raises:
        HandlerError: not callable, no such method, a wrong number of arguments, or a generator that would never run; the text says what
            was found.
    """
    if isinstance(handlers, Mapping):
        if not topics:
            raise HandlerError("found a mapping of topics; only a Sub role has topics")
        return _by_topic(
            [(topic_bytes(topic), _one(agent, module, handler, topics=True, may_yield=False)) for topic, handler in handlers.items()]
        )
    if isinstance(handlers, str) or callable(handlers):
        return _one(agent, module, handlers, topics=topics, may_yield=may_yield)
    if not isinstance(handlers, Sequence) or not handlers:
        raise HandlerError(f"found a {type(handlers).__name__}; a handler is a function, a method, the name of one, or a list of these")
    # The results of several are nobody's reply.
    may_yield = may_yield and len(handlers) == 1
    resolved = [_one(agent, module, handler, topics=topics, may_yield=may_yield) for handler in handlers]
    return resolved[0] if len(resolved) == 1 else lambda *arguments: _in_order(resolved, arguments)
