"""SYNC_PUB: publications, and requests whose replies keep their place among them."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

import time

from tests.differential.handlers import double, receive, receive_topic
from tests.differential.stage import Stage


def _first(agent, message):
    agent.first.append(message)


def _second(agent, message):
    agent.second.append(message)


def _reply(agent, message):
    agent.replies.append(message)


def _client(stage: Stage, name: str = "b"):
    return stage.agent(name, attributes={"received": [], "first": [], "second": [], "replies": []})


def publications(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler=receive)
    stage.warm(a, "out", b)
    for number in range(5):
        a.send("out", number)
    stage.note("received", stage.wait_count(b, 5))


def publications_by_topic(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler={"one": _first, "two": _second})
    stage.warm(a, "out", b, topic="one", name="first")
    stage.warm(a, "out", b, topic="two", name="second")
    for topic in ("one", "three", "two", "onerous"):
        a.send("out", topic, topic=topic)
    stage.note("first", stage.wait_count(b, 2, "first"))
    stage.note("second", stage.wait_count(b, 1, "second"))


def the_handler_gets_the_topic(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler={"one": receive_topic})
    stage.warm(a, "out", b, topic="one")
    a.send("out", 1, topic="one")
    got = stage.wait_count(b, 1)
    stage.note("message", got[0][0])
    stage.note("topic ends with", bytes(got[0][1]).endswith(b"one"))


def a_request(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler=receive)
    stage.warm(a, "out", b)
    stage.note("send", b.send("in", 21, handler=_reply))
    stage.note("replies", stage.wait_count(b, 1, "replies"))
    stage.note("received", b.get_attr("received"))


def only_the_requester_gets_the_reply(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b, c = _client(stage, "b"), _client(stage, "c")
    channel = a.bind("SYNC_PUB", alias="out", handler=double)
    for agent in (b, c):
        agent.connect(channel, alias="in", handler=receive)
    stage.warm(a, "out", b, c)
    b.send("in", 4, handler=_reply)
    stage.note("b", stage.wait_count(b, 1, "replies"))
    a.send("out", "end")
    stage.wait_count(c, 1)
    stage.note("c", [c.get_attr("replies"), c.get_attr("received")[-1]])


def the_reply_keeps_its_place(stage: Stage) -> None:
    def publish(agent):
        agent.count += 1
        agent.send("out", agent.count)

    def answer(agent, request):
        return ["reply after", agent.count]

    a = stage.agent("a", attributes={"count": 0})
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=answer), alias="in", handler=receive)
    stage.warm(a, "out", b)
    a.each(0.005, publish)
    stage.wait_count(b, 3)
    for _ in range(3):
        have = len(b.get_attr("replies"))
        b.send("in", "where?", handler=lambda agent, reply: (agent.received.append(reply), agent.replies.append(reply)))
        stage.wait_count(b, have + 1, "replies")
        stage.wait(lambda: isinstance(b.get_attr("received")[-1], int), "a publication behind the reply")
    got = b.get_attr("received")
    places = [index for index, item in enumerate(got) if isinstance(item, list)]
    stage.note("places", [got[index][1] == got[index - 1] == got[index + 1] - 1 for index in places])


def several_requests(stage: Stage) -> None:
    def ask(agent):
        for number in range(20):
            agent.send("in", number, handler=_reply)

    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler=receive)
    stage.warm(a, "out", b)
    b.execute_as_method(ask)
    stage.note("replies", stage.wait_count(b, 20, "replies"))


def a_request_by_method_name(stage: Stage) -> None:
    class Client(stage.m.Agent):
        def on_init(self):
            self.received = []
            self.replies = []

        def take(self, reply):
            self.replies.append(["take", reply])

    (a,) = stage.agents("a")
    b = stage.agent("b", base=Client)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler=receive)
    stage.warm(a, "out", b)
    b.send("in", 3, handler="take")
    stage.note("replies", stage.wait_count(b, 1, "replies"))


def a_request_needs_a_handler(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler=receive)
    stage.raises("send", lambda: b.send("in", 1), "No handler for SYNC_PUB request")


def early_reply(stage: Stage) -> None:
    def serve(agent, request):
        yield f"early {request}"
        agent.received.append(request)

    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=serve), alias="in", handler=receive)
    stage.warm(a, "out", b)
    b.send("in", "bird", handler=_reply)
    stage.note("replies", stage.wait_count(b, 1, "replies"))
    stage.note("server", stage.wait_count(a, 1))


def a_timeout(stage: Stage) -> None:
    def slow(agent, request):
        import threading

        threading.Event().wait(0.6)
        return "late"

    def give_up(agent):
        agent.replies.append("gave up")

    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=slow), alias="in", handler=receive)
    stage.warm(a, "out", b)
    b.send("in", 1, handler=_reply, wait=0.1, on_error=give_up)
    stage.wait_count(b, 1, "replies")
    stage.wait(lambda: "Received response for an unknown request!" in stage.output(), "the late reply is written")
    stage.note("replies", b.get_attr("replies"))


def subscribe_at_run_time(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler={"one": _first})
    stage.warm(a, "out", b, topic="one", name="first")
    b.subscribe("in", {"two": _second})
    patience = time.monotonic() + 1.5
    stage.wait(lambda: (a.send("out", "new", topic="two"), b.get_attr("second") or time.monotonic() > patience)[1])
    stage.note("second", b.get_attr("second")[:1])
    a.send("out", "old", topic="one")
    stage.note("first", stage.wait_count(b, 1, "first"))


def unsubscribe_at_run_time(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler={"one": _first, "two": _second})
    stage.warm(a, "out", b, topic="one", name="first")
    stage.warm(a, "out", b, topic="two", name="second")
    b.unsubscribe("in", "one")
    a.send("out", 1, topic="one")
    a.send("out", 2, topic="two")
    stage.note("second", stage.wait_count(b, 1, "second"))
    stage.note("first", b.get_attr("first"))


def requests_after_unsubscribing(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler={"one": _first})
    stage.warm(a, "out", b, topic="one", name="first")
    b.unsubscribe("in", "one")
    b.send("in", 8, handler=_reply)
    stage.note("replies", stage.wait_count(b, 1, "replies"))


def the_channel(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    channel = a.bind("SYNC_PUB", alias="out", handler=double)
    stage.note("server", [channel.kind, channel.receiver.kind, channel.sender.kind])
    stage.note("addr", a.addr("out") == channel)
    client = b.connect(channel, alias="in", handler=receive)
    stage.note("client", [client.kind, client.sender.kind, client.receiver.kind])


def it_needs_a_handler(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("SYNC_PUB", alias="out"), "This socket requires a handler!")


def a_chosen_address(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("SYNC_PUB", alias="out", handler=double, addr="127.0.0.1:17000"))


def connecting_again(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    channel = a.bind("SYNC_PUB", alias="out", handler=double)
    b.connect(channel, alias="one", handler=receive)
    stage.raises("again", lambda: b.connect(channel, alias="two", handler=receive))


def over_tcp(stage: Stage) -> None:
    a = stage.agent("a", transport="tcp")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double), alias="in", handler=receive)
    stage.warm(a, "out", b)
    b.send("in", 5, handler=_reply)
    stage.note("replies", stage.wait_count(b, 1, "replies"))


def json_publications(stage: Stage) -> None:
    (a,) = stage.agents("a")
    b = _client(stage)
    b.connect(a.bind("SYNC_PUB", alias="out", handler=double, serializer="json"), alias="in", handler={"j": receive})
    stage.warm(a, "out", b, topic="j")
    a.send("out", {"k": [1, None]}, topic="j")
    stage.note("received", stage.wait_count(b, 1))


def several_clients(stage: Stage) -> None:
    (a,) = stage.agents("a")
    clients = [_client(stage, name) for name in ("b", "c", "d")]
    channel = a.bind("SYNC_PUB", alias="out", handler=double)
    for client in clients:
        client.connect(channel, alias="in", handler=receive)
    stage.warm(a, "out", *clients)
    a.send("out", "to all")
    for number, client in enumerate(clients):
        client.send("in", number, handler=_reply)
    stage.note("received", [stage.wait_count(client, 1) for client in clients])
    stage.note("replies", [stage.wait_count(client, 1, "replies") for client in clients])
