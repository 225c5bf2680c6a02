"""Forwarders: publications pass as they are, topics are asked for upstream, either end of each connection binds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from ganglion import Agent, Forwarder, Proxy, run_forwarder
from tests.integration.imperative.conftest import Stage
from tests.support.wait import wait_for


class Reader(Agent):
    def on_init(self) -> None:
        self.seen: list[tuple[bytes, Any]] = []

    def see(self, message: Any, topic: bytes) -> None:
        self.seen.append((topic, message))


def _forwarder(stage: Stage, name: str, **options: Any) -> Proxy:
    return run_forwarder(name, stage.ns.addr(), backend=stage.backend, **options)


def _reaches(publisher: Proxy, reader: Proxy, topic: str, alias: str = "news") -> None:
    """The reader's subscription has arrived at the publisher, through all that is between."""

    def arrived() -> bool:
        publisher.send(alias, "hello?", topic=topic)
        return (topic.encode(), "hello?") in reader.get_attr("seen")

    wait_for(arrived, what=f"{topic!r} to come through")
    publisher.send(alias, "last", topic=topic)
    wait_for(lambda: (topic.encode(), "last") in reader.get_attr("seen"), what="the queue to empty")
    reader.set_attr(seen=[])


def test_publishers_and_subscribers_know_the_forwarder_only(stage: Stage) -> None:
    hub = _forwarder(stage, "Hub")
    alice, carol = stage.agent("Alice"), stage.agent("Carol")
    bob, dave = stage.agent("Bob", base=Reader), stage.agent("Dave", base=Reader)
    for publisher in (alice, carol):
        publisher.connect(hub.addr("publishers"), alias="news")
    bob.connect(hub.addr("subscribers"), handler={"sport": "see"})
    dave.connect(hub.addr("subscribers"), alias="paper", handler={"": "see"})
    assert wait_for(lambda: hub.topics() == [b"", b"sport"], what="the topics")
    for publisher in (alice, carol):
        _reaches(publisher, bob, "sport")
    wait_for(lambda: len(dave.get_attr("seen")) > 1, what="the same to reach the other")
    dave.set_attr(seen=[])

    # Of all topics, and of none but one: what nobody asked for does not even leave its publisher.
    dave.unsubscribe("paper", "")
    wait_for(lambda: hub.topics() == [b"sport"], what="the topic to be given up")
    _reaches(alice, bob, "sport")

    def unwanted_stays() -> bool:
        bob.set_attr(seen=[])
        before = hub.forwarded()
        for number in range(20):
            alice.send("news", number, topic="weather")
        alice.send("news", {"score": (3, 1)}, topic="sport/tennis")
        wait_for(lambda: bob.get_attr("seen"), what="the publication")
        # A handler gets the topic that it subscribed to.
        assert bob.get_attr("seen") == [(b"sport", {"score": (3, 1)})]
        return bool(hub.forwarded() - before == 1)

    # The publisher learns of it a moment after the forwarder.
    wait_for(unwanted_stays, what="the publisher to keep what nobody wants")

    bob.kill()
    wait_for(lambda: hub.topics() == [], what="the topics of one that died to be given up")


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_either_end_binds_and_forwarders_join(stage: Stage, transport: str) -> None:
    near = _forwarder(stage, "Near", transport=transport, serializer="msgpack")
    far = _forwarder(stage, "Far", transport=transport, serializer="msgpack")
    alice = stage.agent("Alice", serializer="msgpack", transport=transport)
    bob = stage.agent("Bob", base=Reader, serializer="msgpack", transport=transport)
    # Subscribed before there is a publisher: it is asked when it comes.
    far.connect(bob.bind("SUB", handler={"a": "see"}))
    far.connect(near.addr("subscribers"), alias="near")
    wait_for(lambda: near.topics() == [b"a"], what="the topic to come through the second forwarder")
    near.connect(alice.bind("PUB", alias="news"))
    _reaches(alice, bob, "a")
    for number in range(600):
        alice.unsafe.send("news", number, topic="a")
        if number % 200 == 199:
            # No more than the queues hold: a publisher drops what does not fit.
            wait_for(lambda: bob.get_attr("seen")[-1:] == [(b"a", number)], what="the publications")  # noqa: B023 - called at once
    assert bob.get_attr("seen") == [(b"a", number) for number in range(600)]
    far.close("near")
    wait_for(lambda: near.topics() == [], what="the topic to be given up with the connection")
    assert far.topics() == [b"a"]


def test_a_topic_is_given_up_with_the_last_socket_that_wants_it(stage: Stage) -> None:
    hub = _forwarder(stage, "Hub")
    hub.bind("PUB", "more")
    alice, bob, dave = stage.agent("Alice"), stage.agent("Bob", base=Reader), stage.agent("Dave", base=Reader)
    hub.connect(alice.bind("PUB", alias="news"))
    bob.connect(hub.addr("subscribers"), handler={"a": "see"})
    _reaches(alice, bob, "a")
    dave.connect(hub.addr("more"), handler={"a": "see", "b": "see"})
    _reaches(alice, dave, "b")
    hub.close("more")
    wait_for(lambda: hub.topics() == [b"a"], what="b to be given up")
    bob.set_attr(seen=[])
    _reaches(alice, bob, "a")


def test_what_is_published_passes_unread(stage: Stage) -> None:
    hub = _forwarder(stage, "Hub", transport="ipc")
    publishers, subscribers = (hub.addr(alias).endpoint for alias in ("publishers", "subscribers"))
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher, context.socket(zmq.SUB) as subscriber:
        publisher.linger = subscriber.linger = 0
        publisher.connect(publishers)
        subscriber.connect(subscribers)
        subscriber.subscribe(b"\x80")

        def arrived() -> bool:
            publisher.send_multipart([b"\x80\xff", b"?"])
            return bool(subscriber.poll(50))

        wait_for(arrived, what="the subscription to arrive")
        large = bytes(range(256)) * 4096
        sent = [[b"\x80"], [b"\x80", b"", b"\x80\x04cos\nsystem\n."], [b"\x80", large], [b"\x80", large, large], [b"\x80", b"end"]]
        for parts in sent:
            publisher.send_multipart(parts)
        received: list[list[bytes]] = []
        while received[-1:] != [sent[-1]]:
            assert subscriber.poll(10_000), "the publications stopped"
            received.append(subscriber.recv_multipart())
        assert [parts for parts in received if parts != [b"\x80\xff", b"?"]] == sent
        # Messages to publishers, which a subscriber of its own making could send, go nowhere.
        with context.socket(zmq.XSUB) as stranger:
            stranger.linger = 0
            stranger.connect(subscribers)
            stranger.send(b"\1w")
            wait_for(lambda: hub.topics() == [b"w", b"\x80"], what="it to be connected")
            stranger.send(b"no subscription")
            stranger.send_multipart([b"nor", b"this"])
            stranger.send(b"\1x")
            wait_for(lambda: hub.topics() == [b"w", b"x", b"\x80"], what="the subscription after them")
        wait_for(lambda: hub.topics() == [b"\x80"], what="it to be given up")


def test_what_a_forwarder_cannot_do_is_named(stage: Stage) -> None:
    hub = _forwarder(stage, "Hub")
    agent = stage.agent("Alice", base=Reader)
    pull = agent.bind("PULL", handler=lambda agent, message: None)
    other = agent.bind("PUB", serializer="json")
    calls: tuple[tuple[Callable[[], Any], str, str], ...] = (
        (lambda: hub.bind("PUSH"), "NotSupported", "found kind 'PUSH'; a forwarder has PUB and SUB sockets only"),
        (lambda: hub.connect(pull), "NotSupported", "found PULL"),
        (lambda: hub.connect("tcp://x"), "NotSupported", "found str"),
        (lambda: hub.bind("SUB", handler="see"), "NotSupported", "with a handler"),
        (lambda: hub.connect(other), "ValueError", "found json; the forwarder's other sockets have pickle"),
        (lambda: hub.subscribe("publishers", "a"), "NotSupported", "subscribe there"),
        (lambda: hub.unsubscribe("publishers", "a"), "NotSupported", "subscribe there"),
    )
    for call, kind, text in calls:
        with pytest.raises(Exception, match=text) as raised:
            call()
        assert raised.type.__name__ == kind
    assert hub.topics() == []
    with pytest.raises(TypeError, match=r"derived from ganglion\.Forwarder"):
        run_forwarder("No", stage.ns.addr(), base=Agent)  # type: ignore[arg-type]


class OneWay(Forwarder):
    """Binds nothing by itself, and publishes too."""

    def on_init(self) -> None:
        self.bind("PUB", "out")

    def say(self, text: str) -> None:
        self.send("out", text, topic="own")


def test_a_derived_class_chooses_its_sockets_and_may_publish(stage: Stage) -> None:
    hub, bob = _forwarder(stage, "Hub", base=OneWay), stage.agent("Bob", base=Reader)
    bob.connect(hub.addr("out"), handler={"own": "see"})

    def heard() -> bool:
        hub.say("hello")
        return bool(bob.get_attr("seen"))

    wait_for(heard, what="the forwarder's own publication")
    hub.shutdown()
    wait_for(lambda: "Hub" not in stage.ns.agents(), what="it to end")


def test_the_example_prints_what_each_reads() -> None:
    program = Path(__file__).parents[3] / "examples" / "forwarder" / "forwarder.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-3:] == [
        "Ann: ['sport: 3:1']",
        "Bea: ['sport: 3:1', 'weather: rain']",
        "asked for upstream: [b'sport', b'weather']",
    ]


class Teller(Agent):
    def on_init(self) -> None:
        self.told = 0

    def tell(self) -> None:
        self.send("news", self.told, topic="n")
        self.told += 1


def test_a_socket_that_is_closed_meanwhile_costs_the_others_nothing(stage: Stage) -> None:
    hub = _forwarder(stage, "Hub", base=Forwarder)
    for number in range(40):
        hub.bind("PUB", f"spare {number}")
    reader, teller = stage.agent("Bob", base=Reader), stage.agent("Alice", base=Teller)
    reader.connect(hub.bind("PUB", "late"), handler={"n": "see"})
    teller.connect(hub.addr("publishers"), alias="news")
    _reaches(teller, reader, "n")
    timer = teller.each(0.001, "tell")
    for number in range(40):
        # From another thread, between whatever the forwarder does.
        hub.unsafe.close(f"spare {number}")
    teller.stop_timer(timer)
    told = teller.get_attr("told")
    wait_for(lambda: (b"n", told - 1) in reader.get_attr("seen"), what="the last publication")
    assert [message for _, message in reader.get_attr("seen")] == list(range(told))
