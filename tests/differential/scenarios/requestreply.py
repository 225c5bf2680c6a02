"""REQ and REP: who binds, early replies, misuse, errors."""

# Written as users write: without types, on a library that is known at run time only.
# mypy: ignore-errors
from __future__ import annotations

import itertools

from tests.differential.handlers import double, early, echo, receive
from tests.differential.stage import Stage


def rep_binds(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=echo), alias="ask")
    for value in (1, "two", [3], None, {"four": 5.5}):
        stage.note("reply", a.send_recv("ask", value))


def rep_binds_tcp(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=double, transport="tcp"), alias="ask")
    stage.note("reply", [a.send_recv("ask", number) for number in range(10)])


def req_binds(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    b.connect(a.bind("REQ", alias="ask"), handler=double)
    stage.note("reply", [a.send_recv("ask", number) for number in range(5)])


def send_then_recv(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=double), alias="ask")
    for number in range(5):
        stage.note("send", a.send("ask", number))
        stage.note("recv", a.recv("ask"))


def handler_is_a_method_name(stage: Stage) -> None:
    class Server(stage.m.Agent):
        def on_init(self):
            self.count = 0
            self.bind("REP", alias="serve", handler="serve")

        def serve(self, request):
            self.count += 1
            return [self.count, request]

    (a,) = stage.agents("a")
    b = stage.agent("b", base=Server)
    a.connect(b.addr("serve"), alias="ask")
    stage.note("reply", [a.send_recv("ask", letter) for letter in "xyz"])


def handler_is_a_bound_method(stage: Stage) -> None:
    class Server(stage.m.Agent):
        def on_init(self):
            self.bind("REP", alias="serve", handler=self.serve)

        def serve(self, request):
            return f"{self.name}: {request}"

    (a,) = stage.agents("a")
    b = stage.agent("b", base=Server)
    a.connect(b.addr("serve"), alias="ask")
    stage.note("reply", a.send_recv("ask", "hello"))


def handler_is_a_lambda(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=lambda agent, message: f"Received {message}"), alias="ask")
    stage.note("reply", [a.send_recv("ask", number) for number in range(3)])


def no_return_value(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=receive), alias="ask")
    stage.note("reply", a.send_recv("ask", "note this"))
    stage.note("received", b.get_attr("received"))


def early_reply(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=early), alias="ask")
    stage.note("reply", a.send_recv("ask", "bird"))
    stage.note("received", stage.wait_count(b, 1))
    stage.note("again", a.send_recv("ask", "worm"))
    stage.note("received twice", stage.wait_count(b, 2))


def early_reply_before_the_rest(stage: Stage) -> None:
    def serve(agent, request):
        yield "at once"
        import threading

        threading.Event().wait(0.5)
        agent.received.append("done")

    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=serve), alias="ask")
    stage.note("reply", a.send_recv("ask", 1))
    stage.note("rest at reply", b.unsafe.get_attr("received"))
    stage.note("rest later", stage.wait_count(b, 1))


def early_reply_of_a_method(stage: Stage) -> None:
    class Server(stage.m.Agent):
        def on_init(self):
            self.received = []
            self.bind("REP", alias="serve", handler="serve")

        def serve(self, request):
            yield request * 2
            self.received.append(request)

    (a,) = stage.agents("a")
    b = stage.agent("b", base=Server)
    a.connect(b.addr("serve"), alias="ask")
    stage.note("reply", a.send_recv("ask", 21))
    stage.note("received", stage.wait_count(b, 1))


def yield_of_none(stage: Stage) -> None:
    def serve(agent, request):
        yield
        agent.received.append(request)

    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=serve), alias="ask")
    stage.note("reply", a.send_recv("ask", 1))
    stage.note("received", stage.wait_count(b, 1))


def two_yields(stage: Stage) -> None:
    def serve(agent, request):
        yield "first"
        yield "second"

    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=serve), alias="ask")
    stage.note("reply", a.send_recv("ask", 1))
    stage.wait(lambda: "Reply handler yielded more than once!" in stage.output(), "the error is written")
    stage.note("registered", "b" in stage.ns.agents())


def fate_after_two_yields(stage: Stage) -> None:
    def serve(agent, request):
        yield "first"
        yield "second"

    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=serve), alias="ask")
    stage.note("reply", a.send_recv("ask", 1))
    stage.note_fate(b)


def a_failing_handler_leaves_the_requester_waiting(stage: Stage) -> None:
    def refuse(agent, request):
        raise ValueError("refused")

    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=refuse), alias="ask")
    a.send("ask", 1)
    stage.wait(lambda: "refused" in stage.output(), "the error is written")
    stage.note("requester runs", a.is_running())


def a_handler_may_request_in_turn(stage: Stage) -> None:
    def serve(agent, request):
        return agent.send_recv("deeper", request) + 1

    a, b, c = stage.agents("a", "b", "c")
    b.connect(c.bind("REP", handler=double), alias="deeper")
    a.connect(b.bind("REP", handler=serve), alias="ask")
    stage.note("reply", a.send_recv("ask", 20))


def several_clients_of_one_server(stage: Stage) -> None:
    a, b, c, server = stage.agents("a", "b", "c", "server")
    address = server.bind("REP", handler=double)
    for agent in (a, b, c):
        agent.connect(address, alias="ask")
    for number, agent in enumerate((a, b, c, c, b, a)):
        stage.note("reply", agent.send_recv("ask", number))


def replies_go_to_who_asked(stage: Stage) -> None:
    a, b, server = stage.agents("a", "b", "server")
    address = server.bind("REP", handler=echo)
    a.connect(address, alias="ask")
    b.connect(address, alias="ask")
    a.send("ask", "from a")
    b.send("ask", "from b")
    stage.note("b", b.recv("ask"))
    stage.note("a", a.recv("ask"))


def one_client_of_two_servers(stage: Stage) -> None:
    a, b, c = stage.agents("a", "b", "c")
    a.connect(b.bind("REP", handler=lambda agent, message: ["b", message]), alias="b")
    a.connect(c.bind("REP", handler=lambda agent, message: ["c", message]), alias="c")
    a.send("b", 1)
    a.send("c", 2)
    stage.note("c", a.recv("c"))
    stage.note("b", a.recv("b"))


def a_bound_req_serves_its_repliers_in_turn(stage: Stage) -> None:
    def serve(agent, request):
        agent.received.append(request)
        return agent.name

    a, b, c = stage.agents("a", "b", "c")
    address = a.bind("REQ", alias="ask")
    b.connect(address, handler=serve)
    c.connect(address, handler=serve)
    stage.wait(lambda: a.send_recv("ask", "warm") and b.get_attr("received") and c.get_attr("received"), "both are connected")
    names = [a.send_recv("ask", number) for number in range(6)]
    stage.note("shares", [names.count("b"), names.count("c")])
    stage.note("alternates", all(left != right for left, right in itertools.pairwise(names)))


def a_second_request_before_the_reply(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=echo), alias="ask")
    a.send("ask", 1)
    stage.raises("second send", lambda: a.send("ask", 2))


def recv_before_a_request(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=echo), alias="ask")
    stage.raises("recv", lambda: a.recv("ask"))


def recv_from_an_unknown_alias(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("recv", lambda: a.recv("nowhere"), "nowhere")


def rep_needs_a_handler(stage: Stage) -> None:
    (a,) = stage.agents("a")
    stage.raises("bind", lambda: a.bind("REP"), "This socket requires a handler!")


def connecting_rep_needs_a_handler(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    address = a.bind("REQ", alias="ask")
    stage.raises("connect", lambda: b.connect(address), "This socket requires a handler!")


def a_large_request_and_reply(stage: Stage) -> None:
    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=lambda agent, message: message[::-1]), alias="ask")
    stage.note("reply", a.execute_as_method(lambda agent: agent.send_recv("ask", "ab" + "-" * 4_000_000 + "yz")[:2]))


def a_request_from_a_timer(stage: Stage) -> None:
    def ask(agent):
        agent.received.append(agent.send_recv("ask", len(agent.received)))

    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=double), alias="ask")
    a.each(0.02, ask)
    stage.note("replies", stage.wait_count(a, 4)[:4])


def the_reply_waits_for_a_busy_server(stage: Stage) -> None:
    def busy(agent):
        import threading

        threading.Event().wait(0.4)
        agent.received.append("free")

    a, b = stage.agents("a", "b")
    a.connect(b.bind("REP", handler=lambda agent, message: list(agent.received)), alias="ask")
    b.after(0, busy)
    stage.wait(lambda: a.send_recv("ask", 1) == ["free"])
    stage.note("received", b.get_attr("received"))
