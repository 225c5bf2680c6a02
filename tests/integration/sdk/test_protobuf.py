"""Channels with `codec: Protobuf`: every pattern, either data plane."""

from __future__ import annotations

import pytest

from ganglion.wiring import BarrierWiring
from tests.support.agents import world
from tests.support.wirings import channel

CODE = """
    from ganglion import Agent, EncodeError
    from google.protobuf.struct_pb2 import Struct
    from google.protobuf.wrappers_pb2 import StringValue

    def show(*values):
        print("SHOW", *values, flush=True)

    class Server(Agent):
        def on_init(self):
            self.seen = []

        def take(self, order):
            self.seen.append(f"{type(order).__name__} {order['id']:g}")
            if len(self.seen) == 20:
                show("took", self.seen[0], self.seen[19])

        def price(self, order):
            if order["id"] == 13:
                return {"price": 1}  # no StringValue
            self.send("news", StringValue(value=f"priced {order['id']:g}"), topic="orders")
            return StringValue(value=f"costs {order['id']:g}")

    class Client(Agent):
        def hear(self, news, topic):
            show(type(news).__name__, topic, news.value)
            self.shutdown()

        def on_init(self):
            self.after(0.0, "ask")

        def ask(self):
            for number in range(20):
                order = Struct()
                order["id"] = number
                self.send("orders", order)
            for wrong in ({"id": 1}, StringValue(value="x")):
                try:
                    self.send("orders", wrong)
                except EncodeError as error:
                    show(error)
            order["id"] = 13
            try:
                self.send_recv("prices", order)
            except Exception as error:
                show("remote", error.type, error.message)
            order["id"] = 7
            reply = self.send_recv("prices", order)
            show(type(reply).__name__, reply.value)
"""
STRUCT = {"codec": "Protobuf", "message_type": "google.protobuf.Struct"}
TEXT = "google.protobuf.StringValue"


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_messages_of_a_type_travel_on_every_pattern(plane: str) -> None:
    with world(CODE) as here:
        server = here.declare(
            "server",
            channel("orders", "orders", "Pull", bind=True, handler="take", **STRUCT),
            channel("prices", "prices", "Rep", bind=True, handler="price", reply_type=TEXT, **STRUCT),
            channel(
                "news", "news", "Pub", bind=True, codec="Protobuf", message_type=TEXT, barrier=BarrierWiring(peers=1, timeout_seconds=30)
            ),
            target="agents:Server",
            data_plane=plane,
        )
        client = here.declare(
            "client",
            channel("orders", "orders", "Push", bind=False, **STRUCT),
            channel("prices", "prices", "Req", bind=False, reply_type=TEXT, **STRUCT),
            channel("news", "news", "Sub", bind=False, handler="hear", codec="Protobuf", message_type=TEXT),
            target="agents:Client",
            data_plane=plane,
        )
        serving = here.start(server)
        asking = here.start(client)
        asking.ends(0)
        assert [line.removeprefix("SHOW ") for line in asking.output.splitlines() if line.startswith("SHOW ")] == [
            "codec Protobuf: found a dict; send a Struct, or choose another codec",
            "codec Protobuf: found a google.protobuf.wrappers_pb2.StringValue; send a Struct, or choose another codec",
            "remote ganglion.codecs.errors.EncodeError codec Protobuf: found a dict; send a StringValue, or choose another codec",
            "StringValue costs 7",
            "StringValue b'orders' priced 7",
        ]
        serving.says("SHOW took Struct 0 Struct 19")
