"""Timers: each, after, aliases, stopping, errors."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

import itertools

from tests.differential.handlers import boom, tick
from tests.differential.stage import Stage


def _counter(stage: Stage, name: str = "a", **attributes):
    return stage.agent(name, attributes={"ticks": 0, "received": [], **attributes})


def each_repeats(stage: Stage) -> None:
    a = _counter(stage)
    a.each(0.01, tick)
    stage.wait(lambda: a.get_attr("ticks") >= 5)
    stage.note("running", a.is_running())


def each_runs_at_once_first(stage: Stage) -> None:
    a = _counter(stage)
    a.each(60, tick)
    stage.wait_attr(a, "ticks", 1)
    stage.note("ticks", a.get_attr("ticks"))


def each_with_arguments(stage: Stage) -> None:
    def keep(agent, *args, **kwargs):
        agent.received.append([args, kwargs])

    a = _counter(stage)
    a.each(60, keep, 1, "two", three=[3])
    stage.note("received", stage.wait_count(a, 1))


def each_by_method_name(stage: Stage) -> None:
    class Ticker(stage.m.Agent):
        def on_init(self):
            self.ticks = 0

        def advance(self, by):
            self.ticks += by

    a = stage.agent("a", base=Ticker)
    a.each(0.01, "advance", 10)
    stage.wait(lambda: a.get_attr("ticks") >= 30)
    stage.note("by ten", a.get_attr("ticks") % 10)


def each_with_a_lambda(stage: Stage) -> None:
    a = _counter(stage)
    a.each(60, lambda agent: agent.received.append("lambda"))
    stage.note("received", stage.wait_count(a, 1))


def each_in_before_loop(stage: Stage) -> None:
    class Ticker(stage.m.Agent):
        def on_init(self):
            self.ticks = 0

        def before_loop(self):
            self.each(0.01, self.advance)

        def advance(self):
            self.ticks += 1

    class Named(Ticker):
        def before_loop(self):
            self.each(0.01, "advance")

    a = stage.agent("a", base=Named)
    stage.wait(lambda: a.get_attr("ticks") >= 3)
    stage.note("running", a.is_running())


def each_in_on_init(stage: Stage) -> None:
    class Ticker(stage.m.Agent):
        def on_init(self):
            self.ticks = 0
            self.each(0.01, "advance", alias="early")

        def advance(self):
            self.ticks += 1

    a = stage.agent("a", base=Ticker)
    stage.note("listed", a.list_timers())
    stage.elapse(0.4)
    stage.note("ticks", a.get_attr("ticks") > 3)


def a_function_becomes_a_method(stage: Stage) -> None:
    a = _counter(stage)
    a.each(60, tick, alias="t")
    stage.wait_attr(a, "ticks", 1)
    a.execute_as_method(lambda agent: agent.tick())
    stage.note("ticks", a.get_attr("ticks"))


def after_runs_once(stage: Stage) -> None:
    a = _counter(stage)
    a.after(0.01, tick)
    stage.wait_attr(a, "ticks", 1)
    stage.elapse(0.1)
    stage.note("ticks", a.get_attr("ticks"))


def after_zero(stage: Stage) -> None:
    a = _counter(stage)
    a.after(0, tick)
    stage.wait_attr(a, "ticks", 1)
    stage.note("ticks", a.get_attr("ticks"))


def after_waits(stage: Stage) -> None:
    def keep(agent, start):
        import time

        agent.received.append(time.time() - start >= 0.3)

    import time

    a = _counter(stage)
    a.after(0.3, keep, time.time())
    stage.note("late enough", stage.wait_count(a, 1))


def after_in_order_of_delays(stage: Stage) -> None:
    def keep(agent, what):
        agent.received.append(what)

    a = _counter(stage)
    for delay, what in ((0.6, "third"), (0.05, "first"), (0.3, "second")):
        a.after(delay, keep, what)
    stage.note("received", stage.wait_count(a, 3))


def after_with_arguments(stage: Stage) -> None:
    def keep(agent, *args, **kwargs):
        agent.received.append([args, kwargs])

    a = _counter(stage)
    a.after(0, keep, 1, [2], k=(3,))
    stage.note("received", stage.wait_count(a, 1))


def an_alias(stage: Stage) -> None:
    a = _counter(stage)
    stage.note("each", a.each(60, tick, alias="heart"))
    stage.note("after", a.after(60, tick, alias="later"))
    stage.note("list", a.list_timers())


def without_an_alias(stage: Stage) -> None:
    a = _counter(stage)
    name = a.each(60, tick)
    stage.note("identifier", name)
    stage.note("listed", a.list_timers() == [name])
    a.stop_timer(name)
    stage.note("stopped", a.list_timers())


def no_timers(stage: Stage) -> None:
    a = _counter(stage)
    stage.note("list", a.list_timers())


def stop_a_timer(stage: Stage) -> None:
    a = _counter(stage)
    a.each(0.01, tick, alias="heart")
    stage.wait(lambda: a.get_attr("ticks") >= 3)
    stage.note("stop", a.stop_timer("heart"))
    stage.elapse(0.05)
    ticks = a.get_attr("ticks")
    stage.elapse(0.2)
    stage.note("stands still", a.get_attr("ticks") == ticks)
    stage.note("list", a.list_timers())


def stop_a_pending_after(stage: Stage) -> None:
    a = _counter(stage)
    a.after(0.2, tick, alias="later")
    a.stop_timer("later")
    stage.elapse(0.4)
    stage.note("ticks", a.get_attr("ticks"))


def stop_an_unknown_timer(stage: Stage) -> None:
    a = _counter(stage)
    stage.raises("stop", lambda: a.stop_timer("nope"), "nope")


def stop_a_timer_twice(stage: Stage) -> None:
    a = _counter(stage)
    a.each(60, tick, alias="heart")
    a.stop_timer("heart")
    stage.raises("again", lambda: a.stop_timer("heart"), "heart")


def stop_all_timers(stage: Stage) -> None:
    a = _counter(stage)
    for number in range(4):
        a.each(60, tick, alias=f"t{number}")
    stage.wait_attr(a, "ticks", 4)
    stage.note("stop", a.stop_all_timers())
    stage.note("list", a.list_timers())
    stage.note("ping", a.ping())


def stop_from_its_own_action(stage: Stage) -> None:
    def once_more(agent):
        agent.ticks += 1
        if agent.ticks == 3:
            agent.stop_timer("heart")

    a = _counter(stage)
    a.each(0.01, once_more, alias="heart")
    stage.wait(lambda: a.list_timers() == [])
    stage.elapse(0.1)
    stage.note("ticks", a.get_attr("ticks"))


def several_timers(stage: Stage) -> None:
    def keep(agent, what):
        agent.received.append(what)

    a = _counter(stage)
    a.each(0.02, keep, "fast")
    a.each(0.03, keep, "slow")
    stage.wait(lambda: {"fast", "slow"} <= set(a.get_attr("received")) and len(a.get_attr("received")) > 10)
    stage.note("both", sorted(set(a.get_attr("received"))))


def a_timer_of_a_timer(stage: Stage) -> None:
    def chain(agent, left):
        agent.received.append(left)
        if left:
            agent.after(0.01, "chain", left - 1)

    a = _counter(stage)
    a.set_method(chain)
    a.after(0, "chain", 3)
    stage.note("received", stage.wait_count(a, 4))


def a_timer_from_a_handler(stage: Stage) -> None:
    def later(agent, message):
        agent.after(0.02, _keep_all, message)

    a = _counter(stage)
    b = _counter(stage, "b")
    a.connect(b.bind("PULL", handler=later), alias="out")
    a.send("out", "delayed")
    stage.note("received", stage.wait_count(b, 1))


def _keep_all(agent, *what):
    agent.received.extend(what)


def a_slow_action_never_overlaps(stage: Stage) -> None:
    def slow(agent):
        import threading

        agent.inside += 1
        agent.most = max(agent.most, agent.inside)
        threading.Event().wait(0.05)
        agent.inside -= 1
        agent.ticks += 1

    a = _counter(stage, inside=0, most=0)
    a.each(0.01, slow)
    stage.wait(lambda: a.get_attr("ticks") >= 4)
    stage.note("most", a.get_attr("most"))


def no_burst_after_a_pause(stage: Stage) -> None:
    def stamp(agent):
        import threading
        import time

        agent.received.append(time.monotonic())
        if len(agent.received) == 2:
            threading.Event().wait(0.6)

    a = _counter(stage)
    a.each(0.1, stamp)
    stamps = stage.wait_count(a, 6)
    gaps = [later - sooner for sooner, later in itertools.pairwise(stamps)]
    stage.note("kept apart", all(gap > 0.03 for gap in gaps[1:]))


def a_period_of_zero(stage: Stage) -> None:
    a = _counter(stage)
    a.each(0, tick)
    stage.wait(lambda: a.unsafe.get_attr("ticks") >= 20)
    stage.note("answers", a.ping())


def an_unknown_method(stage: Stage) -> None:
    a = _counter(stage)
    stage.raises("after", lambda: a.after(0, "missing", alias="t"))
    stage.wait(lambda: "missing" in stage.output(), "the error is written")
    stage.note("registered", stage.ns.agents())


def a_failing_action(stage: Stage) -> None:
    a = _counter(stage)
    a.after(0, boom, alias="t")
    stage.wait(lambda: "boom" in stage.output(), "the error is written")
    stage.note("registered", stage.ns.agents())


def fate_after_a_failing_action(stage: Stage) -> None:
    a = _counter(stage)
    a.after(0, boom, alias="t")
    stage.note_fate(a)


def shutdown_with_timers(stage: Stage) -> None:
    a = _counter(stage)
    for number in range(3):
        a.each(0.005, tick, alias=f"t{number}")
    stage.wait(lambda: a.get_attr("ticks") >= 3)
    a.shutdown()
    stage.wait_gone("a")
    stage.note("agents", stage.ns.agents())


def a_pending_timer_delays_no_shutdown(stage: Stage) -> None:
    import time

    a = _counter(stage)
    a.after(3600, tick)
    started = time.monotonic()
    stage.ns.shutdown()
    stage.note("soon", time.monotonic() - started < 4)
