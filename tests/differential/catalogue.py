"""Which scenarios there are, what each needs, and which module defines it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.differential import scenarios

Play = Callable[[Any], None]
P = TypeVar("P", bound=Play)


@dataclass(frozen=True)
class Needs:
    """What a scenario asks of the process that plays it.

    Attributes:
        environment: `DEFAULT_…` variables, without the prefix that each library puts before them.
        seconds: it is killed after that long.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 30.0


_NEEDS: dict[Play, Needs] = {}


def needs(*, seconds: float = 30.0, **environment: str) -> Callable[[P], P]:
    """Say what a scenario needs; without it a scenario has 30 seconds and the defaults."""

    def note(play: P) -> P:
        _NEEDS[play] = Needs(environment, seconds)
        return play

    return note


def catalogue() -> dict[str, tuple[Play, Needs]]:
    """Every scenario: `theme.name` → the function and its needs. A name that begins with an underscore is a helper.

    Those that need an environment of their own come last: a host process has one environment for its life.
    """
    found: dict[str, tuple[Play, Needs]] = {}
    for info in pkgutil.iter_modules(scenarios.__path__):
        module = importlib.import_module(f"{scenarios.__name__}.{info.name}")
        for name, value in vars(module).items():
            if (
                name.startswith("_")
                or not callable(value)
                or getattr(value, "__module__", "") != module.__name__
                or isinstance(value, type)
            ):
                continue
            if value.__code__.co_varnames[: value.__code__.co_argcount] == ("stage",):
                found[f"{info.name}.{name}"] = (value, _NEEDS.get(value, Needs()))
    return dict(sorted(found.items(), key=lambda item: bool(item[1][1].environment)))
