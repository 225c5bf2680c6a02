"""Log lines carry who, what and which message."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping

import pytest

from ganglion.runtime.logs import Context, configure, level_number
from ganglion.sdk.base import AgentCore


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, quiet = root.handlers[:], root.level, logging.getLogger("asyncio").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(quiet)


def _setup(form: str, level: str = "INFO", context: Context = dict) -> io.StringIO:
    stream = io.StringIO()
    environment = {"GANGLION_LOG_FORMAT": form, "GANGLION_LOG_LEVEL": level}
    configure(environment, agent="worker", replica="worker-0", context=context, stream=stream)
    return stream


def test_json_lines() -> None:
    stream = _setup("json")
    try:
        int("bad")
    except ValueError:
        logging.getLogger("worker").exception("failed\non %s", "x", extra={"message_id": "00ab-7", "alias": "tasks"})
    entry = json.loads(stream.getvalue())
    assert entry["exception"].endswith("literal for int() with base 10: 'bad'")
    assert entry["time"].endswith("Z")
    wanted = {
        "level": "ERROR",
        "agent": "worker",
        "replica": "worker-0",
        "message": "failed\non x",
        "message_id": "00ab-7",
        "alias": "tasks",
    }
    assert {key: entry[key] for key in wanted} == wanted


def test_text_names_the_replica_and_the_message() -> None:
    stream = _setup("text")
    logging.getLogger("worker").info("hello")
    logging.getLogger("my.module").warning("there", extra={"message_id": "00ab-7"})
    first, second = stream.getvalue().splitlines()
    assert first.endswith("INFO    worker-0 hello")
    assert second.endswith("WARNING worker-0 message_id=00ab-7 my.module: there")


def test_the_context_is_asked_for_every_line() -> None:
    def context() -> Mapping[str, str]:
        return {"message_id": "1-2", "alias": "tasks"}

    stream = _setup("json", context=context)
    logging.getLogger("worker").info("x")
    assert json.loads(stream.getvalue())["message_id"] == "1-2"


def test_lone_surrogates_do_not_cost_the_line() -> None:
    stream = _setup("json")
    logging.getLogger("worker").info("file %s", "\udc80")
    assert json.loads(stream.getvalue())["message"] == "file \\udc80"


def test_levels() -> None:
    stream = _setup("text", "warning")
    logging.getLogger("worker").info("quiet")
    logging.getLogger("worker").warning("loud")
    assert stream.getvalue().count("\n") == 1


def test_an_agent_of_a_manifest_changes_its_level() -> None:
    stream = _setup("text", "warning")
    core = AgentCore()
    core.set_log_level(level_number("debug"))
    logging.getLogger("worker").debug("heard")
    core.set_log_level(level_number(logging.ERROR))
    logging.getLogger("worker").warning("not heard")
    assert [line.rsplit(" ", 1)[-1] for line in stream.getvalue().splitlines()] == ["heard"]


def test_a_declared_level_is_set_once_for_each_change() -> None:
    declared = configure({"GANGLION_LOG_LEVEL": "WARNING"}, agent="worker", replica="worker-0", stream=io.StringIO())
    seen = []
    for level in ("", "Debug", "own", "Debug", "Error", "Unheard", "", "own", ""):
        if level == "own":
            AgentCore().set_log_level(logging.CRITICAL)
        else:
            declared.declare(level)
        seen.append(logging.getLevelName(logging.getLogger().level))
    own = "CRITICAL"
    assert seen == ["WARNING", "DEBUG", own, own, "ERROR", "ERROR", "WARNING", own, own]
    assert logging.getLogger("asyncio").level == logging.CRITICAL


@pytest.mark.parametrize("level", ["LOUD", "", 7, None, True])
def test_other_levels_are_refused(level: object) -> None:
    with pytest.raises(ValueError, match=r"level: found .*; must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, or its number"):
        level_number(level)


@pytest.mark.parametrize(
    ("form", "level", "text"), [("xml", "INFO", "GANGLION_LOG_FORMAT: found 'xml'"), ("text", "LOUD", "GANGLION_LOG_LEVEL: found 'LOUD'")]
)
def test_unknown_settings_are_named(form: str, level: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _setup(form, level)
