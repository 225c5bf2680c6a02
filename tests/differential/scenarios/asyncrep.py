"""ASYNC_REP: many requests outstanding, handlers, timeouts, late replies."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

from tests.differential.handlers import double, echo, receive
from tests.differential.stage import Stage


def _pair(stage: Stage, handler=double, **connect):
    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=handler), alias="ask", **connect)
    return a, b


def handler_at_connect(stage: Stage) -> None:
    a, _b = _pair(stage, handler=double)
    c = stage.agents("c")[0]
    c.connect(_b.bind("ASYNC_REP", alias="second", handler=double), alias="ask", handler=receive)
    stage.note("send", c.send("ask", 21))
    stage.note("received", stage.wait_count(c, 1))
    stage.note("the other client", a.get_attr("received"))


def handler_at_send(stage: Stage) -> None:
    a, _b = _pair(stage)
    a.send("ask", 4, handler=receive)
    stage.note("received", stage.wait_count(a, 1))


def handler_at_send_wins(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=double), alias="ask", handler=lambda agent, reply: agent.received.append(["connect", reply]))
    a.send("ask", 1, handler=lambda agent, reply: agent.received.append(["send", reply]))
    stage.wait_count(a, 1)
    a.send("ask", 2)
    stage.note("received", stage.wait_count(a, 2))


def handler_by_name(stage: Stage) -> None:
    class Client(stage.m.Agent):
        def on_init(self):
            self.received = []

        def take(self, reply):
            self.received.append(["take", reply])

    a = stage.agent("a", base=Client)
    (b,) = stage.agents("b")
    a.connect(b.bind("ASYNC_REP", handler=double), alias="ask", handler="take")
    a.send("ask", 5)
    stage.note("received", stage.wait_count(a, 1))


def handler_by_name_at_send(stage: Stage) -> None:
    class Client(stage.m.Agent):
        def on_init(self):
            self.received = []

        def take(self, reply):
            self.received.append(["take", reply])

    a = stage.agent("a", base=Client)
    (b,) = stage.agents("b")
    a.connect(b.bind("ASYNC_REP", handler=double), alias="ask")
    a.send("ask", 6, handler="take")
    stage.note("received", stage.wait_count(a, 1))


def many_outstanding(stage: Stage) -> None:
    def ask(agent):
        for number in range(50):
            agent.send("ask", number)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=double), alias="ask", handler=receive)
    a.execute_as_method(ask)
    stage.note("received", stage.wait_count(a, 50))


def it_does_not_block(stage: Stage) -> None:
    def slow(agent, request):
        import threading

        threading.Event().wait(0.4)
        return request

    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=slow), alias="ask", handler=receive)
    a.send("ask", 1)
    stage.note("meanwhile", [a.ping(), a.get_attr("received")])
    stage.note("received", stage.wait_count(a, 1))


def early_reply(stage: Stage) -> None:
    def serve(agent, request):
        yield f"early {request}"
        agent.received.append(request)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=serve), alias="ask", handler=receive)
    a.send("ask", "bird")
    stage.note("a", stage.wait_count(a, 1))
    stage.note("b", stage.wait_count(b, 1))


def early_reply_before_the_rest(stage: Stage) -> None:
    def serve(agent, request):
        yield "at once"
        import threading

        threading.Event().wait(0.5)
        agent.received.append("rest")

    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=serve), alias="ask", handler=receive)
    a.send("ask", 1)
    stage.note("a", stage.wait_count(a, 1))
    stage.note("rest at reply", b.unsafe.get_attr("received"))
    stage.note("rest later", stage.wait_count(b, 1))


def two_yields(stage: Stage) -> None:
    def serve(agent, request):
        yield "first"
        yield "second"

    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=serve), alias="ask", handler=receive)
    a.send("ask", 1)
    stage.note("a", stage.wait_count(a, 1))
    stage.wait(lambda: "Reply handler yielded more than once!" in stage.output(), "the error is written")
    stage.note("still one", a.get_attr("received"))


def several_clients(stage: Stage) -> None:
    a, b, c, server = stage.agents("a", "b", "c", "server")
    channel = server.bind("ASYNC_REP", handler=double)
    for agent in (a, b, c):
        agent.connect(channel, alias="ask", handler=receive)
    for number, agent in enumerate((a, b, c, a)):
        agent.send("ask", number)
    stage.note("a", sorted(stage.wait_count(a, 2)))
    stage.note("b", stage.wait_count(b, 1))
    stage.note("c", stage.wait_count(c, 1))


def one_client_of_two_servers(stage: Stage) -> None:
    a, b, c = stage.agents("a", "b", "c")
    for agent in (b, c):
        channel = agent.bind("ASYNC_REP", handler=lambda agent, request: [agent.name, request])
        a.connect(channel, alias=f"ask {agent.get_attr('name')}", handler=receive)
    a.send("ask b", 1)
    stage.wait_count(a, 1)
    a.send("ask c", 2)
    stage.note("received", stage.wait_count(a, 2))


def over_tcp(stage: Stage) -> None:
    a, b = stage.agents("a", "b", transport="tcp")
    channel = b.bind("ASYNC_REP", handler=double)
    stage.note("transport", channel.transport)
    a.connect(channel, alias="ask", handler=receive)
    a.send("ask", 8)
    stage.note("received", stage.wait_count(a, 1))


def by_alias(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    channel = b.bind("ASYNC_REP", alias="serve", handler=echo)
    stage.note("addr", b.addr("serve") == channel)
    stage.note("kind", [channel.kind, channel.receiver.kind, channel.sender])
    stage.note("connect", a.connect(b.addr("serve"), alias="ask", handler=receive))
    a.send("ask", "x")
    stage.note("received", stage.wait_count(a, 1))


def a_timeout(stage: Stage) -> None:
    def slow(agent, request):
        import threading

        threading.Event().wait(0.6)
        return "late"

    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=slow), alias="ask")
    a.send("ask", 1, handler=receive, wait=0.1)
    stage.wait(lambda: re_found(r"Did not receive request .* after 0.1 seconds", stage.output()), "the timeout is written")
    stage.wait(lambda: "Received response for an unknown request!" in stage.output(), "the late reply is written")
    stage.note("received", a.get_attr("received"))
    stage.note("running", a.is_running())


def re_found(pattern: str, text: str) -> bool:
    """Whether the pattern is in the text."""
    import re

    return re.search(pattern, text) is not None


def a_timeout_with_a_handler(stage: Stage) -> None:
    def slow(agent, request):
        import threading

        threading.Event().wait(0.6)
        return "late"

    def give_up(agent):
        agent.received.append("gave up")

    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=slow), alias="ask")
    a.send("ask", 1, handler=receive, wait=0.1, on_error=give_up)
    stage.wait_count(a, 1)
    stage.wait(lambda: "Received response for an unknown request!" in stage.output(), "the late reply is written")
    stage.note("received", a.get_attr("received"))


def a_timeout_that_is_not_reached(stage: Stage) -> None:
    def give_up(agent):
        agent.received.append("gave up")

    a, _b = _pair(stage)
    a.send("ask", 1, handler=receive, wait=0.5, on_error=give_up)
    stage.wait_count(a, 1)
    stage.elapse(0.7)
    stage.note("received", a.get_attr("received"))


def wait_zero_is_no_timeout(stage: Stage) -> None:
    def slow(agent, request):
        import threading

        threading.Event().wait(0.3)
        return request

    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=slow), alias="ask")
    a.send("ask", 1, handler=receive, wait=0)
    stage.note("received", stage.wait_count(a, 1))


def needs_a_handler_at_the_server(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("ASYNC_REP"), "This socket requires a handler!")


def connecting_again(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    channel = b.bind("ASYNC_REP", handler=double)
    a.connect(channel, alias="one", handler=receive)
    stage.raises("again", lambda: a.connect(channel, alias="two", handler=receive), "connect")


def the_server_of_a_method(stage: Stage) -> None:
    class Server(stage.m.Agent):
        def on_init(self):
            self.count = 0
            self.bind("ASYNC_REP", alias="serve", handler=self.serve)

        def serve(self, request):
            self.count += 1
            return [self.count, request]

    (a,) = stage.agents("a")
    b = stage.agent("b", base=Server)
    a.connect(b.addr("serve"), alias="ask", handler=receive)
    a.send("ask", "x")
    stage.wait_count(a, 1)
    a.send("ask", "y")
    stage.note("received", stage.wait_count(a, 2))


def the_server_closes(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", alias="serve", handler=double), alias="ask", handler=receive)
    a.send("ask", 1)
    stage.wait_count(a, 1)
    b.close("serve")
    stage.note("has", b.has_socket("serve"))
    stage.note("ping", b.ping())


def a_reply_handler_asks_again(stage: Stage) -> None:
    def further(agent, reply):
        agent.received.append(reply)
        if reply < 50:
            agent.send("ask", reply)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=double), alias="ask", handler=further)
    a.send("ask", 1)
    stage.note("received", stage.wait_count(a, 6))


def python_values_by_pickle(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=echo, serializer="pickle"), alias="ask", handler=receive)
    for value in (None, (1, 2), {3}, {"k": b"\x00"}):
        a.send("ask", value)
    stage.note("received", stage.wait_count(a, 4))


def a_failing_server(stage: Stage) -> None:
    def refuse(agent, request):
        raise ValueError(f"refused {request}")

    a, b = stage.agents("a", "b")
    a.connect(b.bind("ASYNC_REP", handler=refuse), alias="ask", handler=receive)
    a.send("ask", "this")
    stage.wait(lambda: "refused this" in stage.output(), "the error is written")
    stage.note("client runs", a.is_running())
    stage.note("received", a.get_attr("received"))
