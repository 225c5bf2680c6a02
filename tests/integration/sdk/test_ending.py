"""How agents end: signals, commands, exceptions, and what is promised about messages meanwhile."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.agents import World, world
from tests.support.wait import wait_for
from tests.support.wirings import channel

CODE = """
    import time
    import threading
    from ganglion import Agent, AgentStopping

    class Quiet(Agent):
        def before_loop(self):
            print("running", flush=True)

        def on_exit(self):
            print("on_exit", flush=True)

    class Busy(Quiet):
        def on_init(self):
            self.after(0.0, self.work)

        def work(self):
            print("busy", flush=True)
            end = time.monotonic() + 60
            while time.monotonic() < end:
                sum(range(1000))

    class Finite(Quiet):
        def take(self, number):
            time.sleep(0.02)
            self.send("results", number)

    def endless(agent):
        sent = 0
        try:
            while True:
                agent.send("work", sent)
                sent += 1
        except AgentStopping:
            print("SENT", sent, flush=True)

    def polite(agent):
        print("running", flush=True)
        while not agent.stopping:
            time.sleep(0.01)
        print("polite end", flush=True)

    def raises(agent):
        raise ValueError("in the function")

    def exits(agent):
        raise SystemExit(7)

    class Counter(Agent):
        def on_init(self):
            self.seen = set()

        def take(self, number):
            self.seen.add(number)

        def on_exit(self):
            print("SEEN", len(self.seen), flush=True)

    class Raises(Quiet):
        def take(self, number):
            if number == self.get_attr("bad"):
                raise ValueError(f"bad number {number}")
            print("took", number, flush=True)

    class Exits(Quiet):
        def take(self, number):
            raise SystemExit("enough")

    def relay(agent):
        for number in agent.messages("work"):
            agent.send("results", number)
        print("relay ends", flush=True)

    class Stubborn(Quiet):
        def on_init(self):
            threading.Thread(target=threading.Event().wait, name="stubborn").start()

    class Idler(Quiet):
        def idle(self):
            print("idle", flush=True)
            self.shutdown()

    def five(agent):
        for number in range(5):
            agent.send("work", number)
"""


@pytest.fixture
def here() -> Iterator[World]:
    with world(CODE) as made:
        yield made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_agent_in_order(here: World, number: signal.Signals) -> None:
    process = here.start(here.declare("quiet", target="agents:Quiet"))
    process.says("running")
    process.signal(number)
    process.ends(0)
    assert process.output.count("on_exit") == 1
    wait_for(lambda: not here.server.admin.status().members, what="the goodbye", timeout=5)


def test_a_busy_handler_delays_the_end_no_longer_than_its_bound(here: World) -> None:
    process = here.start(here.declare("busy", target="agents:Busy", drain_timeout_seconds=2))
    process.says("busy")
    # The lease lives on while the handler computes.
    started = time.monotonic()
    process.signal()
    process.ends(1, timeout=20)
    assert time.monotonic() - started >= 1.0
    assert any("not finished in time" in line["message"] for line in process.lines)


def test_the_second_interrupt_ends_at_once(here: World) -> None:
    process = here.start(here.declare("busy", target="agents:Busy", drain_timeout_seconds=50))
    process.says("busy")

    def interrupted() -> bool:
        # Two signals that arrive at the same moment are one.
        process.signal(signal.SIGINT)
        return process.process.poll() is not None

    wait_for(interrupted, what="the end", interval=0.2)
    assert process.process.returncode == 130


def test_a_function_that_looks_at_stopping_ends(here: World) -> None:
    process = here.start(here.declare("polite", target="agents:polite"))
    process.says("running")
    process.signal()
    process.ends(0)
    assert "polite end" in process.output


def test_run_once_that_leaves_early_has_not_completed(here: World) -> None:
    process = here.start(here.declare("polite", target="agents:polite", run="Once"))
    process.says("running")
    process.signal()
    process.ends(143)


@pytest.mark.parametrize(("target", "handler"), [("Finite", "take"), ("relay", None)])
def test_shutdown_with_the_flow_handles_everything_that_was_sent(here: World, target: str, handler: str | None) -> None:
    source = here.declare("source", channel("work", "work", "Push", bind=True, high_water_mark=64), target="agents:endless")
    worker = here.declare(
        "worker",
        channel("work", "work", "Pull", bind=False, handler=handler, high_water_mark=64),
        channel("results", "results", "Push", bind=False),
        target=f"agents:{target}",
    )
    sink = here.declare("sink", channel("results", "results", "Pull", bind=True, handler="take"), target="agents:Counter")
    processes = [here.start(document) for document in (source, worker, sink)]
    wait_for(lambda: any(c.name == "results" and c.acked > 50 for c in here.server.admin.status().channels), what="some results")
    here.shut_down(60)
    for process in processes:
        process.ends(0)
    sent = int(processes[0].output.split("SENT ")[1].split()[0])
    assert f"SEEN {sent}" in processes[2].output
    assert processes[1].output.count("on_exit" if handler else "relay ends") == 1
    assert not any(line["level"] == "ERROR" for process in processes for line in process.lines)


def test_a_source_that_fills_a_channel_without_receivers_still_leaves(here: World) -> None:
    source = here.declare(
        "source", channel("work", "work", "Push", bind=True, high_water_mark=8), target="agents:endless", drain_timeout_seconds=4
    )
    process = here.start(source)
    wait_for(lambda: any(c.accepted == 8 for c in here.server.admin.status().channels), what="a full channel")
    process.signal()
    process.ends(0)
    assert "SENT 8" in process.output
    assert any("work: 8" in line["message"] for line in process.lines)


def test_the_functions_exception_ends_the_process(here: World) -> None:
    process = here.start(here.declare("raises", target="agents:raises", run="Once"))
    process.ends(1)
    (line,) = [line for line in process.lines if line["level"] == "ERROR"]
    assert "ValueError: in the function" in line["message"]
    assert "Traceback" in line["exception"]


def test_sys_exit_names_the_code(here: World) -> None:
    here.start(here.declare("exits", target="agents:exits", run="Once")).ends(7)


@pytest.mark.parametrize(("policy", "code"), [("Continue", None), ("Restart", 1), ("Stop", 0)])
def test_on_error(here: World, policy: str, code: int | None) -> None:
    source = here.declare("source", channel("work", "work", "Push", bind=True), target="agents:five", run="Once")
    raises = here.declare(
        "raises",
        channel("work", "work", "Pull", bind=False, handler="take"),
        target="agents:Raises",
        attributes={"bad": 2},
        on_error=policy,
        drain_timeout_seconds=4,
    )
    receiver, sender = here.start(raises), here.start(source)
    if code is None:
        sender.ends(0)
        receiver.says("took 4")
        errors = [line for line in receiver.lines if line["level"] == "ERROR"]
        assert len(errors) == 3, "three attempts"
        assert {line["message_id"] for line in errors} == {errors[0]["message_id"]}
        assert errors[0]["message_id"].endswith("-2")
        assert errors[0]["alias"] == "work"
        (count,) = [c for c in here.server.admin.status().channels if c.name == "work"]
        assert (count.accepted, count.acked, count.dead_lettered) == (5, 4, 1)
        receiver.signal()
        receiver.ends(0)
    else:
        receiver.ends(code)
        assert receiver.output.count("on_exit") == 1


def test_sys_exit_in_a_handler_ends_in_order(here: World) -> None:
    source = here.declare("source", channel("work", "work", "Push", bind=True), target="agents:five", run="Once")
    exits = here.declare(
        "exits", channel("work", "work", "Pull", bind=False, handler="take"), target="agents:Exits", drain_timeout_seconds=4
    )
    receiver = here.start(exits)
    here.start(source)
    receiver.ends(1)
    assert "enough" in receiver.output
    assert receiver.output.count("on_exit") == 1


def test_a_thread_that_never_ends_does_not_keep_the_process(here: World) -> None:
    process = here.start(here.declare("stubborn", target="agents:Stubborn"))
    process.says("running")
    process.signal()
    process.ends(0)
    assert any("threads still run: stubborn" in line["message"] for line in process.lines)


def test_idle_runs_when_nothing_comes(here: World) -> None:
    process = here.start(here.declare("idler", target="agents:Idler"))
    process.ends(0)
    assert "idle" in process.output
