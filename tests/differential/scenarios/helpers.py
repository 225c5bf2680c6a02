"""The functions that people test their agents with."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

from tests.differential.handlers import receive
from tests.differential.stage import Stage


def agent_dies(stage: Stage) -> None:
    helper = stage.part("helper")
    (a,) = stage.agents("a")
    stage.note("alive", helper.agent_dies("a", stage.ns, timeout=0.1))
    a.shutdown()
    stage.note("dead", helper.agent_dies("a", stage.ns, timeout=8))


def wait_agent_attr(stage: Stage) -> None:
    helper = stage.part("helper")
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive), alias="out")
    for number in range(3):
        a.send("out", number)
    stage.note("length", helper.wait_agent_attr(b, length=3, timeout=8))
    stage.note("data", helper.wait_agent_attr(b, data=2, timeout=8))
    stage.note("value", helper.wait_agent_attr(b, value=[0, 1, 2], timeout=8))
    stage.note("endswith", helper.wait_agent_attr(b, endswith=[1, 2], timeout=8))
    stage.note("in vain", helper.wait_agent_attr(b, length=4, timeout=0.1))


def wait_agent_attr_of_another_name(stage: Stage) -> None:
    helper = stage.part("helper")
    a = stage.agent("a", attributes={"size": 0})
    a.after(0.05, "set_attr", size=3)
    stage.note("reached", helper.wait_agent_attr(a, name="size", value=3, timeout=8))


def wait_condition(stage: Stage) -> None:
    helper = stage.part("helper")
    stage.note("true", helper.wait_condition(lambda: True, timeout=0.1))
    stage.note("false", helper.wait_condition(lambda: False, timeout=0.1))
    stage.note("negated", helper.wait_condition(lambda: False, negate=True, timeout=0.1))
    stage.note("arguments", helper.wait_condition(lambda x, y: x == y, 3, y=3, timeout=0.1))


def wait_agent_condition(stage: Stage) -> None:
    helper = stage.part("helper")
    a = stage.agent("a", attributes={"size": 0})
    a.after(0.05, "set_attr", size=3)
    stage.note("reached", helper.wait_agent_condition(a, lambda agent: agent.size == 3, timeout=8))
    stage.note("in vain", helper.wait_agent_condition(a, lambda agent, size: agent.size == size, 4, timeout=0.1))


def logger_received(stage: Stage) -> None:
    helper = stage.part("helper")
    logger = stage.logger("logger")
    (a,) = stage.agents("a")
    a.set_logger(logger)
    helper.sync_agent_logger(agent=a, logger=logger)
    a.log_info("needle in the hay")
    a.log_warning("a warning")
    stage.note("found", helper.logger_received(logger, "needle .* hay", timeout=8))
    stage.note("by level", helper.logger_received(logger, "a warning", log_name="log_history_warning", timeout=8))
    stage.note("in vain", helper.logger_received(logger, "no such thing", timeout=0.1))
    stage.note("last", helper.logger_received(logger, "needle", position=-1, timeout=8))


def last_received_endswith(stage: Stage) -> None:
    helper = stage.part("helper")
    a, b = stage.agents("a", "b")
    a.connect(b.bind("PULL", handler=receive), alias="out")
    stage.note("nothing yet", b.execute_as_method(helper.last_received_endswith, "end"))
    a.send("out", "this is the end")
    stage.note("it ends", helper.wait_agent_condition(b, helper.last_received_endswith, "end", timeout=8))


def attribute_match_all(stage: Stage) -> None:
    match = stage.part("helper").attribute_match_all
    stage.note("length", [match([1, 2], length=2), match([1], length=2)])
    stage.note("data", [match([1, 2], data=2), match([1, 2], data=3)])
    stage.note("value", [match("x", value="x"), match("x", value="y")])
    stage.note("endswith", [match([1, 2, 3], endswith=[2, 3]), match([1, 2, 3], endswith=[1])])
    stage.note("all", [match([1, 2], length=2, data=1), match([1, 2], length=2, data=5)])
    stage.raises("nothing", lambda: match([1]))
