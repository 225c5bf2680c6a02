"""Logging: a logger's histories, levels, formats, what is written where."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

import re

from tests.differential.handlers import boom
from tests.differential.stage import Stage


def _logged(stage: Stage, *names: str):
    """A logger, and agents that log to it and are known to be heard."""
    logger = stage.logger("logger")
    agents = stage.agents(*names)
    for agent in agents:
        agent.set_logger(logger)
        stage.part("helper").sync_agent_logger(agent=agent, logger=logger)
    stage.wait(lambda: len(set(map(len, (logger.get_attr("log_history_info"), logger.get_attr("log_history_info"))))) == 1)
    return logger, agents


def _ours(lines, *words):
    return [re.sub(r"^\[.*?\] ", "", line) for line in lines if any(word in line for word in words)]


def histories_by_level(stage: Stage) -> None:
    logger, (a,) = _logged(stage, "a")
    a.log_info("one info")
    a.log_warning("one warning")
    a.log_error("one error")
    stage.wait(lambda: any("one error" in line for line in logger.get_attr("log_history")))
    for level in ("info", "warning", "error", "debug"):
        stage.note(level, _ours(logger.get_attr(f"log_history_{level}"), "one "))
    stage.note("all", _ours(logger.get_attr("log_history"), "one "))


def the_format_of_a_line(stage: Stage) -> None:
    logger, (a,) = _logged(stage, "a")
    a.log_info("the message")
    stage.wait(lambda: any("the message" in line for line in logger.get_attr("log_history")))
    line = next(line for line in logger.get_attr("log_history") if "the message" in line)
    stage.note("line", line)
    stage.note("shape", bool(re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\] \(a\): the message", line)))


def debug_is_off(stage: Stage) -> None:
    logger, (a,) = _logged(stage, "a")
    a.log_debug("hidden")
    a.log_info("shown")
    stage.wait(lambda: any("shown" in line for line in logger.get_attr("log_history")))
    stage.note("debug", _ours(logger.get_attr("log_history_debug"), "hidden"))
    stage.note("all", _ours(logger.get_attr("log_history"), "hidden", "shown"))


def debug_switched_on(stage: Stage) -> None:
    logger, (a,) = _logged(stage, "a")
    a.set_attr(_DEBUG=True)
    a.log_debug("no longer hidden")
    stage.wait(lambda: any("no longer" in line for line in logger.get_attr("log_history_debug")))
    stage.note("debug", _ours(logger.get_attr("log_history_debug"), "no longer"))


def debug_tells_of_attributes(stage: Stage) -> None:
    logger, (a,) = _logged(stage, "a")
    a.set_attr(_DEBUG=True)
    a.set_attr(size=3)
    stage.wait(lambda: any("self.size" in line for line in logger.get_attr("log_history_debug")))
    stage.note("debug", _ours(logger.get_attr("log_history_debug"), "self.size"))


def several_agents(stage: Stage) -> None:
    logger, (a, b) = _logged(stage, "a", "b")
    a.log_info("said by a")
    stage.wait(lambda: any("said by a" in line for line in logger.get_attr("log_history")))
    b.log_info("said by b")
    stage.wait(lambda: any("said by b" in line for line in logger.get_attr("log_history")))
    stage.note("all", _ours(logger.get_attr("log_history"), "said"))


def in_order(stage: Stage) -> None:
    def talk(agent):
        for number in range(50):
            agent.log_info(f"word {number}")

    logger, (a,) = _logged(stage, "a")
    a.execute_as_method(talk)
    stage.wait(lambda: any("word 49" in line for line in logger.get_attr("log_history")))
    stage.note("order", _ours(logger.get_attr("log_history"), "word") == [f"(a): word {number}" for number in range(50)])


def set_logger_by_address(stage: Stage) -> None:
    logger = stage.logger("logger")
    (a,) = stage.agents("a")
    a.set_logger(logger.addr("sub"))
    stage.wait(lambda: (a.log_info("by address"), any("by address" in line for line in logger.get_attr("log_history")))[1])
    stage.note("heard", True)


def set_logger_by_something_else(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("text", lambda: a.unsafe.set_logger("logger"), "AgentAddress must be provided")


def the_loggers_socket(stage: Stage) -> None:
    logger = stage.logger("logger")
    address = logger.addr("sub")
    stage.note("kind", [address.kind, address.role])


def a_logger_is_an_agent(stage: Stage) -> None:
    logger = stage.logger("logger")
    stage.note("agents", stage.ns.agents())
    stage.note("histories", [logger.get_attr(name) for name in ("log_history", "log_history_info", "log_history_debug")])
    stage.note("ping", logger.ping())


def a_logger_class_of_its_own(stage: Stage) -> None:
    class Marked(stage.m.Logger):
        def log_handler(self, message, topic):
            super().log_handler("marked " + message, topic)

    logger = stage.logger("logger", base=Marked)
    (a,) = stage.agents("a")
    a.set_logger(logger)
    stage.wait(lambda: (a.log_warning("hello"), logger.get_attr("log_history_warning"))[1])
    stage.note("line", logger.get_attr("log_history_warning")[0])


def errors_reach_the_logger(stage: Stage) -> None:
    logger, (a,) = _logged(stage, "a")
    a.after(0, boom, alias="t")
    stage.wait(lambda: any("boom" in line for line in logger.get_attr("log_history_error")))
    line = next(line for line in logger.get_attr("log_history_error") if "boom" in line)
    stage.note("traceback", ["Traceback" in line, "ValueError" in line, "(a)" in line])


def info_is_printed_without_a_logger(stage: Stage) -> None:
    (a,) = stage.agents("a")
    a.log_info("to the terminal")
    stage.wait(lambda: "to the terminal" in stage.output())
    stage.note("line", next(line for line in stage.output().splitlines() if "to the terminal" in line))


def info_is_not_printed_with_a_logger(stage: Stage) -> None:
    logger, (a,) = _logged(stage, "a")
    a.log_info("not to the terminal")
    a.log_error("this is")
    stage.wait(lambda: any("this is" in line for line in logger.get_attr("log_history_error")))
    stage.wait(lambda: "this is" in stage.output())
    stage.note("info", "not to the terminal" in stage.output())


def errors_are_always_printed(stage: Stage) -> None:
    _logger, (a,) = _logged(stage, "a")
    a.log_error("loud error")
    a.log_warning("loud warning")
    stage.wait(lambda: "loud error" in stage.output() and "loud warning" in stage.output())
    stage.note("lines", sorted(line for line in stage.output().splitlines() if "loud" in line))


def logging_from_a_handler(stage: Stage) -> None:
    def say(agent, message):
        agent.log_info(f"Received: {message}")

    logger, (a, b) = _logged(stage, "a", "b")
    a.connect(b.bind("PULL", handler=say), alias="out")
    a.send("out", "Hello, Bob!")
    stage.wait(lambda: any("Received" in line for line in logger.get_attr("log_history")))
    stage.note("line", _ours(logger.get_attr("log_history"), "Received"))


def text_beyond_ascii(stage: Stage) -> None:
    logger, (a,) = _logged(stage, "a")
    a.log_info("größer als 5 €")
    stage.wait(lambda: any("größer" in line for line in logger.get_attr("log_history")))
    stage.note("line", _ours(logger.get_attr("log_history"), "größer"))


def a_second_logger(stage: Stage) -> None:
    logger, (a,) = _logged(stage, "a")
    other = stage.logger("other")
    a.set_logger(other, alias="_other")
    stage.wait(lambda: (a.log_info("to the other", logger="_other"), other.get_attr("log_history"))[1])
    a.log_info("to the first")
    stage.wait(lambda: any("to the first" in line for line in logger.get_attr("log_history")))
    stage.note("first", sorted(set(_ours(logger.get_attr("log_history"), "to the"))))
    stage.note("other", sorted(set(_ours(other.get_attr("log_history"), "to the"))))
