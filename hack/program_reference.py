"""Reference page of what programs use, as Markdown: from the docstrings and signatures of the public names."""

from __future__ import annotations

import builtins
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ganglion
from ganglion import helper
from ganglion.errors import GanglionError
from ganglion.imperative import errors, proxy
from hack.reference import MARK, cell, table

FUNCTIONS = ("run_nameserver", "run_agent", "run_logger", "run_forwarder")
CLASSES = (
    "Agent",
    "Departure",
    "Proxy",
    "Future",
    "NSProxy",
    "NameServer",
    "Logger",
    "Forwarder",
    "SocketAddress",
    "AgentAddress",
    "AgentChannel",
)
GIVEN = frozenset({"Departure", "Future"})
"""Classes that programs do not make themselves."""
CONFIG = {
    "SAFE": ("`true`", "Whether calls through a proxy run in the agent's main loop unless they say otherwise."),
    "BACKEND": ("`process`", "Of `run_agent`: `process`, `thread` or `pod`."),
    "SERIALIZER": ("`pickle`", "Codec of sockets; where remote code is not trusted, name another."),
    "TRANSPORT": ("`ipc`, in a pod `tcp`", "Of sockets that name none: `tcp`, `ipc` or `inproc`."),
    "LINGER": ("`1`", "Seconds that a closed socket has for what is not yet sent; negative: for ever."),
    "CALL_TIMEOUT": ("`60`", "Seconds of a call through a proxy that says nothing else (`within`)."),
    "MAX_MESSAGE_BYTES": ("`268435456`", "A larger message from a peer ends its connection."),
    "IPC_DIR": ("below `$XDG_RUNTIME_DIR` or `/tmp`", "Folder of ipc sockets, which only this user may enter. Has no variable."),
}
"""Key of `ganglion.config` → default, meaning."""
ENVIRONMENT = {
    "GANGLION_NAMESERVER_ADDRESS": "`host:port` of the name server, for calls that name none. `run_nameserver` sets it.",
    "GANGLION_DEFAULT_…": "Defaults, one for each key of the table above, e.g. `GANGLION_DEFAULT_TRANSPORT=tcp`.",
    "GANGLION_JOIN_SECRET": "Secret that processes share which call each other and connect over tcp. Without it this user's own, made when it is first needed.",
    "GANGLION_JOIN_SECRET_FILE": "File that holds it.",
    "GANGLION_REMOTE_CODE": "Whether peers may send code (functions, classes, pickles): `Trusted` (default outside of a domain), `Signed` or `Forbidden`.",
    "GANGLION_SIGNING_KEY_FILE": "`Signed`: file of the private Ed25519 key (PEM) with which this process signs code that it sends.",
    "GANGLION_TRUSTED_KEYS_FILE": "`Signed`: file of the public keys (PEM, one or more) whose code agents run.",
    "GANGLION_LOG_LEVEL": "Level of the log of a domain's directory; agents log through their logger.",
    "GANGLION_DOMAIN": "Set by the runtime in agents of a domain that allows ad-hoc agents.",
    "GANGLION_RUN_DIR": "Set by the runtime there, too: where the sidecar is asked.",
    "GANGLION_ADVERTISE_HOST": "Set by the runtime there, too: the pod's address.",
    "GANGLION_CONNECTED": "Set by `ganglion connect` in its program.",
    "GANGLION_RELAY": "Set by `ganglion connect` in its program: where it reaches agents in pods.",
}
"""Variable → meaning; a test finds those that the code reads."""
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises)(?: \((.+)\))?:$")
_ITEM = re.compile(r"^([\w*, ]+): (.+)$", re.DOTALL)


def _joined(lines: Iterable[str]) -> str:
    return re.sub(r"\s+", " ", " ".join(lines)).strip()


def _items(lines: list[str]) -> Iterator[str]:
    """Entries of a section; a deeper line goes on with the one above it."""
    entry: list[str] = []
    for line in lines:
        if entry and not line.startswith("     ") and line.strip():
            yield _joined(entry)
            entry = []
        entry.append(line)
    if entry:
        yield _joined(entry)


def _parts(text: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """(paragraphs, sections with their entries) of a docstring."""
    paragraphs: list[list[str]] = [[]]
    sections: list[tuple[str, list[str]]] = []
    for line in inspect.cleandoc(text).splitlines():
        if found := _SECTION.match(line):
            sections.append((found[1] + (f" ({found[2]})" if found[2] else ""), []))
        elif sections and (line.startswith(" ") or not line):
            sections[-1][1].append(line)
        elif line:
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    return [_joined(lines) for lines in paragraphs if lines], [(name, list(_items([x for x in lines if x]))) for name, lines in sections]


def _described(text: str, indent: str) -> str:
    """A docstring as Markdown: paragraphs, then a list entry for each argument and outcome."""
    paragraphs, sections = _parts(text)
    lines = [f"\n\n{indent}".join(paragraphs)]
    for name, items in sections:
        for item in items:
            found = _ITEM.match(item)
            if name in ("Args", "Attributes") and found:
                lines.append(f"{indent}- {', '.join(f'`{word.strip()}`' for word in found[1].split(','))}: {found[2]}")
            else:
                lines.append(f"{indent}- *{name.lower()}*: {item}")
    return "\n".join(lines)


def _default(value: Any) -> str:
    return value.__name__ if inspect.isclass(value) else repr(value)


def _signature(function: Callable[..., Any]) -> str:
    """Arguments with their defaults; types are in the docstrings' words."""
    parts, star = [], False
    for item in inspect.signature(function).parameters.values():
        if item.name == "self":
            continue
        if item.kind is item.KEYWORD_ONLY and not star:
            parts.append("*")
        star = star or item.kind in (item.KEYWORD_ONLY, item.VAR_POSITIONAL)
        mark = "*" if item.kind is item.VAR_POSITIONAL else "**" if item.kind is item.VAR_KEYWORD else ""
        parts.append(f"{mark}{item.name}" + ("" if item.default is item.empty else f"={_default(item.default)}"))
    return f"({', '.join(parts)})"


def members(kind: type) -> Iterator[tuple[str, str]]:
    """(signature, docstring) of the public members that a class adds or changes, in the order of its source."""
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            yield name, value.fget.__doc__ or ""
        elif inspect.isfunction(value):
            yield f"{name}{_signature(value)}", value.__doc__ or ""


def _class(name: str, kind: type) -> str:
    made_by_programs = "__init__" in vars(kind) and name not in GIVEN
    arguments = _signature(kind.__init__) if made_by_programs else ""  # type: ignore[misc]
    listed = "".join(f"- **`{signature}`**: {_described(text, '  ')}\n" for signature, text in members(kind))
    return (
        f"### {name}\n\n"
        + (f"`{name}{arguments}`\n\n" if arguments else "")
        + f"{_described(kind.__doc__ or '', '')}\n"
        + (f"\n{listed}" if listed else "")
    )


def _functions(home: Any, names: Iterable[str]) -> str:
    return "\n".join(
        f"### {name}\n\n`{name}{_signature(getattr(home, name))}`\n\n{_described(getattr(home, name).__doc__, '')}\n" for name in names
    )


def public_errors() -> dict[str, type[BaseException]]:
    """Name → class of every error that programs may catch."""
    found = {name: getattr(ganglion, name) for name in ganglion.__all__} | {name: getattr(errors, name) for name in errors.__all__}
    return {name: kind for name, kind in sorted(found.items()) if inspect.isclass(kind) and issubclass(kind, GanglionError)}


def _errors() -> Iterator[tuple[str, ...]]:
    for name, kind in public_errors().items():
        standard = [
            base.__name__
            for base in kind.__mro__
            if vars(builtins).get(base.__name__) is base and base not in (Exception, BaseException, object)
        ]
        where = "" if name in ganglion.__all__ else "`ganglion.imperative.errors`"
        yield f"`{name}`", ", ".join(f"`{base}`" for base in standard[:1]), where, cell(_parts(kind.__doc__ or "")[0][0])


def helpers() -> list[str]:
    """Functions of `ganglion.helper`."""
    return [
        name for name, value in vars(helper).items() if inspect.isfunction(value) and value.__module__ == helper.__name__ and name[0] != "_"
    ]


def page() -> str:
    """The whole page."""
    settings = ((f"`{key}`", default, cell(meaning)) for key, (default, meaning) in CONFIG.items())
    variables = ((f"`{name}`", cell(meaning)) for name, meaning in ENVIRONMENT.items())
    return (
        f"{MARK}# Programs that make agents\n\n"
        "What `from ganglion import …` offers to programs that start a name server and agents themselves. "
        "[Coming from osBrain](../osbrain.md) tells what differs, [Writing agents](../tutorial/writing-agents.md) explains handlers and codecs. "
        "Times are in seconds.\n\n"
        f"## Functions\n\n{_functions(ganglion, FUNCTIONS)}\n"
        f"## Classes\n\n{chr(10).join(_class(name, getattr(ganglion, name)) for name in CLASSES)}\n"
        f"### Futures\n\n{_described(proxy.Futures.__doc__ or '', '')}\n\n"
        "## Errors\n\nEvery error of Ganglion is a `GanglionError`. An exception that a method raised in the agent is raised at the caller with its own type, "
        "where that type can travel.\n\n"
        f"{table(('error', 'also a', 'import from', 'meaning'), _errors())}\n"
        "## Configuration\n\n`ganglion.config` holds the defaults of a process; a change holds for what is made afterwards. Each is read from "
        f"`GANGLION_DEFAULT_<key>` (or `OSBRAIN_DEFAULT_<key>`) first.\n\n{table(('key', 'default', 'meaning'), settings)}\n"
        f"## Environment\n\n{table(('variable', 'meaning'), variables)}\n"
        f"## Helpers for tests\n\n`from ganglion.helper import …`\n\n{_functions(helper, helpers())}"
    )
