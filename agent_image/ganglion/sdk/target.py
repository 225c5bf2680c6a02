"""From `module:Class` or `module:function` to the object, with one clear line when that fails."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganglion.runtime.errors import ConfigurationError
from ganglion.sdk.agent import Agent
from ganglion.sdk.tracebacks import place


@dataclass(frozen=True, slots=True)
class Target:
    """What an agent runs.

    Attributes:
        cls: class of the agent; plain `Agent` for a function.
        function: called with the agent; None for a class.
        module: names of the module, where handlers given by name are looked for.
    """

    cls: type[Agent]
    function: Any
    module: Mapping[str, Any]


def where(error: BaseException) -> str:
    """`Type: message (file, line n)` of the innermost frame of the user's: enough for one line."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    file, line = place(error)
    if not file or isinstance(error, SyntaxError):
        return " ".join(text.split())
    return " ".join(f"{text} ({Path(file).name}, line {line})".split())


def load_target(text: str | None, code_dir: str | None) -> Target:
    """Import what `Agent.spec.class` names.

    Args:
        text: `module:name`; the name may have dots.
        code_dir: directory put first on the module path; None: the image's own code.
    Raises:
        ConfigurationError: cannot be imported, is not there, or is neither a class derived from Agent nor a function.
    """
    if not text:
        raise ConfigurationError("class: not set; an SDK agent needs `module:Class` or `module:function`")
    module_name, separator, name = text.partition(":")
    if not separator or not module_name or not name:
        raise ConfigurationError(f"class: {text!r}: must be `module:Class` or `module:function`")
    if code_dir and code_dir not in sys.path:
        sys.path.insert(0, code_dir)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name == module_name:
            place = f" in {code_dir} or" if code_dir else ""
            raise ConfigurationError(f"class: {text!r}: no module {module_name!r}{place} on the module path of the image") from error
        raise ConfigurationError(f"class: {text!r}: cannot be imported: {where(error)}") from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"class: {text!r}: cannot be imported: {where(error)}") from error
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise ConfigurationError(f"class: {text!r}: module {module_name!r} has no {name!r}") from error
    if isinstance(found, type):
        if not issubclass(found, Agent):
            raise ConfigurationError(f"class: {text!r}: class {name} must derive from ganglion.Agent")
        return Target(found, None, vars(module))
    if not callable(found):
        raise ConfigurationError(
            f"class: {text!r}: found a {type(found).__name__}; must be a class derived from ganglion.Agent or a function"
        )
    return Target(Agent, found, vars(module))
