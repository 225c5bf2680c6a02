"""What goes wrong in a call: types, texts, and what the agent does then."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

from tests.differential.handlers import boom
from tests.differential.stage import Stage


def an_unknown_attribute(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("get_attr", lambda: a.get_attr("missing"), "missing")
    stage.raises("dot", lambda: a.missing)
    stage.note("still runs", a.ping())


def an_unknown_method(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("call", lambda: a.missing(1))
    stage.note("still runs", a.ping())


def errors_keep_their_type(stage: Stage) -> None:
    def fail(kind):
        raise {"value": ValueError, "key": KeyError, "type": TypeError, "io": FileNotFoundError, "zero": ZeroDivisionError}[kind](
            f"about {kind}"
        )

    (a,) = stage.agents("a")
    for kind in ("value", "key", "type", "io", "zero"):
        stage.raises(kind, lambda kind=kind: a.unsafe.execute_as_function(fail, kind), f"about {kind}")
    stage.note("running", a.is_running())


def an_error_of_a_safe_call(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.set_method(boom)
    stage.raises("call", a.boom, "boom", "Error executing `boom`! (boom)", "Traceback (most recent call last)", "ValueError")


def fate_after_an_error_of_a_safe_call(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.set_method(boom)
    stage.raises("call", a.boom, "boom")
    stage.note_fate(a)
    stage.raises("next call", a.ping, "Agent must be running")


def an_error_names_the_arguments(stage: Stage) -> None:
    def divide(agent, left, right=1):
        return left / right

    (a,) = stage.agents("a")
    a.set_method(divide)
    stage.raises("call", lambda: a.divide(1, right=0), "division by zero", "`divide`", "(1,)", "'right': 0")


def an_exception_of_the_users_own(stage: Stage) -> None:
    class TooLong(Exception):
        """Local to the program."""

    def fail(agent):
        raise TooLong("by a mile")

    (a,) = stage.agents("a")
    stage.raises("call", lambda: a.unsafe.execute_as_method(fail), "by a mile")


def too_many_arguments(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("call", lambda: a.unsafe.ping(1, 2, 3), "ping()")


def an_unsafe_error_stops_nobody(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.set_method(boom)
    stage.raises("call", a.unsafe.boom, "boom")
    stage.note("running", a.is_running())
    stage.note("ping", a.ping())


def oneway_errors_are_invisible(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.set_method(boom)
    stage.note("answer", a.oneway.boom())
    stage.note("ping", a.ping())
    stage.note("running", a.is_running())


def wait_for_running_in_vain(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.stop()
    stage.wait_stopped(a)
    stage.raises("wait", lambda: a.wait_for_running(timeout=0.1), "Timed out while waiting for the agent to be running")
