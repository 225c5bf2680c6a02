"""Every codec on the channels of an agent: pushed, asked for and published, on either data plane."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ganglion.wiring import BarrierWiring, WiringDocument
from tests.support.agents import world
from tests.support.wirings import channel

CODECS = ("MsgPack", "MsgPackBlosc", "Json", "Raw", "Pickle", "Dill")
CODE = """
    from ganglion import Agent

    CODE = {1, 2}  # no codec but those that can run code carries a set as it is
    VALUES = {"Raw": b"r" * 5000, "Pickle": CODE, "Dill": CODE}
    OTHERS = {"n": [1, 2.5, None], "text": "x" * 5000}

    def value(codec):
        return VALUES.get(codec, OTHERS)

    def judge(how, codec, found):
        found = bytes(found) if codec == "Raw" else found
        print("SHOW", how, codec, type(found) is type(value(codec)) and found == value(codec), flush=True)

    class Server(Agent):
        def same(self, found):
            return found

    class Client(Agent):
        def on_init(self):
            self.after(0.0, "tell")

        def tell(self):
            for codec in self.get_attr("codecs"):
                self.send(f"push-{codec}", value(codec))
                self.send(f"pub-{codec}", value(codec), topic="t")
                judge("asked", codec, self.send_recv(f"ask-{codec}", value(codec)))

    def handler(how, codec):
        def handle(self, found):
            judge(how, codec, found)
        return handle

    for codec in ("MsgPack", "MsgPackBlosc", "Json", "Raw", "Pickle", "Dill"):
        for how in ("push", "pub"):
            setattr(Server, f"{how}_{codec}", handler(how, codec))
"""


def trusted(document: WiringDocument) -> WiringDocument:
    """As under a NameServer with `remoteCode: Trusted`."""
    return msgspec.structs.replace(document, name_server=msgspec.structs.replace(document.name_server, remote_code="Trusted"))


@pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])
def test_every_codec_on_every_pattern(plane: str) -> None:
    here_in, there_out = [], []
    for codec in CODECS:
        push, ask, pub = (f"{how}-{codec}" for how in ("push", "ask", "pub"))
        here_in += [
            channel(push, push, "Pull", bind=True, handler=f"push_{codec}", codec=codec),
            channel(ask, ask, "Rep", bind=True, handler="same", codec=codec),
            channel(pub, pub, "Sub", bind=False, handler=f"pub_{codec}", codec=codec),
        ]
        there_out += [
            channel(push, push, "Push", bind=False, codec=codec),
            channel(ask, ask, "Req", bind=False, codec=codec),
            channel(pub, pub, "Pub", bind=True, codec=codec, barrier=BarrierWiring(peers=1, timeout_seconds=30)),
        ]
    options: dict[str, Any] = {"data_plane": plane, "attributes": {"codecs": list(CODECS)}}
    with world(CODE) as here:
        server = here.start(trusted(here.declare("server", *here_in, target="agents:Server", **options)))
        client = here.start(trusted(here.declare("client", *there_out, target="agents:Client", **options)))
        for codec in CODECS:
            client.says(f"SHOW asked {codec} True")
            server.says(f"SHOW push {codec} True")
            server.says(f"SHOW pub {codec} True")
