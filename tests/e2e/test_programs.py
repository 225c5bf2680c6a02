"""Plain ZeroMQ programs in containers of their own, in C and in Python: every role, with SDK agents of either plane."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.domain import Domain, agent, channel, link, name_server
from tests.support.cluster import KindCluster
from tests.support.programs import image_context
from tests.support.wait import wait_for

IMAGE = "localhost/ganglion-test-programs:dev"
COUNT = 400
ASKED = 50
HEARD = 300
"""Publications that each subscriber prints, a peer those of each publisher: one may begin long before the other."""
# Channels by what the plain programs do there: (socket, its arguments, role, pattern, the channel's own fields).
PLAIN: dict[str, tuple[str, str, str, str, dict[str, Any]]] = {
    "push-acked": ("push", f"{COUNT} $TAG", "Push", "PushPull", {"bind": "Push"}),
    "push-quick": ("push", f"{COUNT} $TAG", "Push", "PushPull", {"delivery": "BestEffort", "bind": "Pull"}),
    "pull-acked": ("rep", "0", "Pull", "PushPull", {"barrier": {"peers": 2}, "ack": "Handler"}),
    "pull-quick": ("pull", "0", "Pull", "PushPull", {"delivery": "BestEffort", "barrier": {"peers": 2}}),
    "publish": ("pub", "0 $TAG", "Pub", "PubSub", {}),
    "subscribe": ("sub", f"{HEARD} t.", "Sub", "PubSub", {}),
    "ask": ("req", f"{ASKED} $TAG", "Req", "RequestReply", {}),
    "answer": ("rep", "0", "Rep", "RequestReply", {}),
}
PLANES = {"s": "Sidecar", "i": "InProcess"}
# Each plane has channels of its own: with both on one, the quicker peer could do all the work.
CHANNELS = {f"{alias}-{plane}": PLAIN[alias] for alias in PLAIN for plane in PLANES}
ROLES = {"Push": "Pull", "Pull": "Push", "Pub": "Sub", "Sub": "Pub", "Req": "Rep", "Rep": "Req"}
NUMBERS = {"codec": "Protobuf", "messageType": "google.protobuf.Int64Value"}
"""Of the channel on which an SDK agent of one plane sends messages of a type to that of the other."""
HANDLERS = {"push-acked": "pushed", "push-quick": "pushed_quick", "publish": "published", "ask": "reply"}
TAGS = {"program-c": "c", "program-python": "p", "peer-s": "s", "peer-i": "i"}
PROGRAMS, PEERS = ("program-c", "program-python"), ("peer-s", "peer-i")

CODE = """
    import asyncio
    from ganglion import Agent
    from google.protobuf.wrappers_pb2 import Int64Value

    class Peer(Agent):
        def on_init(self):
            self.tag, self.number, self.printed = self.get_attr("tag"), 0, {}
            self.each(0.01, self.publish)
            self.after(0.0, self.push)
            self.after(0.0, self.ask)

        def say(self, what, value):
            print(f"{what}-{self.tag}", bytes(value).decode(), flush=True)

        def pushed(self, value):
            self.say("push-acked", value)

        def pushed_quick(self, value):
            self.say("push-quick", value)

        def published(self, value, topic):
            publisher = bytes(value[:1])
            self.printed[publisher] = self.printed.get(publisher, 0) + 1
            if self.printed[publisher] <= self.get_attr("heard"):
                self.say("publish", value)

        def numbered(self, message):
            print("numbers", message.value, flush=True)

        def publish(self):
            self.send("subscribe", b"%s%d" % (self.tag.encode(), self.number), topic=b"t.")
            self.number += 1

        def push(self):
            for number in range(self.get_attr("count")):
                for alias in ("pull-acked", "pull-quick"):
                    self.send(alias, b"%s%d" % (self.tag.encode(), number))
                if self.tag == "s":
                    self.send("numbers", Int64Value(value=number))

        async def ask(self):
            questions = [b"%s%d" % (self.tag.encode(), number) for number in range(self.get_attr("asked"))]
            # When both repliers are there, and at once, so that each of them gets some.
            async with asyncio.timeout(100):
                while self.wired("answer") < 2:
                    await asyncio.sleep(0.05)
            for reply in await asyncio.gather(*(self.request("answer", question, timeout=60) for question in questions)):
                self.say("answer", reply)

        def reply(self, value):
            return self.tag.encode() + b":" + bytes(value)
"""


def programs(language: str) -> dict[str, Any]:
    """An agent that runs one program of the language on each channel, in one container."""
    name = f"program-{language}"
    binary = "/programs/plain" if language == "c" else "python3 /programs/plain.py"
    lines = [f"TAG={TAGS[name]}"]
    for alias, (socket, arguments, *_) in CHANNELS.items():
        lines.append(f"{binary} {socket} ipc://$GANGLION_RUN_DIR/{alias}.sock {arguments} 2>&1 | sed -u 's/^/{alias} /' &")
    links = [link(alias, alias, role) for alias, (_, _, role, *_) in CHANNELS.items()]
    return agent(name, "zoo", links, container={"image": IMAGE, "command": ["sh", "-c", "\n".join([*lines, "wait"])]})


def peer(plane: str) -> dict[str, Any]:
    """An agent of the SDK at the other end of every channel of its plane."""
    name = f"peer-{plane}"
    links = []
    for alias, (_, _, role, *_) in PLAIN.items():
        extra = {"handler": HANDLERS[alias]} if alias in HANDLERS else {}
        links.append(link(alias, f"{alias}-{plane}", ROLES[role], **extra))
    links.append(link("numbers", "numbers", "Push") if plane == "s" else link("numbers", "numbers", "Pull", handler="numbered"))
    attributes = {"tag": TAGS[name], "count": COUNT, "asked": ASKED, "heard": HEARD}
    return agent(name, "zoo", links, class_="agents:Peer", code=CODE, dataPlane=PLANES[plane], attributes=attributes)


@pytest.fixture
def here(operator: KindCluster) -> Iterator[Domain]:
    with tempfile.TemporaryDirectory() as folder:
        operator.build(IMAGE, image_context(Path(folder)), Path(folder))
    with operator.namespace("programs") as name:
        yield Domain(operator, name)


def said(here: Domain) -> dict[tuple[str, str], list[str]]:
    """(agent, channel) → what it printed there."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in TAGS:
        for line in here.log(name).splitlines():
            alias, _, text = line.partition(" ")
            if (alias in CHANNELS or alias == "numbers") and text != "done":
                found.setdefault((name, alias), []).append(text)
    return found


def numbered(tags: str, count: int, prefix: str = "") -> list[str]:
    return sorted(f"{prefix}{tag}{number}" for tag in tags for number in range(count))


@pytest.mark.timeout(400)
def test_programs_of_two_languages_take_every_role(here: Domain) -> None:
    channels = [channel(name, "zoo", pattern, codec="Raw", **spec) for name, (_, _, _, pattern, spec) in CHANNELS.items()]
    channels.append(channel("numbers", "zoo", "PushPull", **NUMBERS))
    here.create(name_server("zoo"), *channels, *(programs(language) for language in ("c", "python")), *map(peer, PLANES))
    here.wait_ready(*TAGS)
    heard: dict[tuple[str, str], list[str]] = {}

    def all_there() -> bool:
        heard.clear()
        heard.update(said(here))
        return all(_complete(heard, plane) for plane in PLANES) and len(_at(heard, "numbers", "peer-i")) >= COUNT

    try:
        wait_for(all_there, timeout=120, interval=2.0, what="everything to arrive")
        for plane in PLANES:
            _assert_exact(heard, plane)
        assert _at(heard, "numbers", "peer-i") == sorted(map(str, range(COUNT)))
    except (TimeoutError, AssertionError) as error:
        counts = {f"{name} {alias}": len(texts) for (name, alias), texts in sorted(heard.items())}
        error.add_note(f"{counts}\n{here.diagnosis()}")
        raise


Heard = dict[tuple[str, str], list[str]]


def _at(heard: Heard, alias: str, *names: str) -> list[str]:
    return sorted(text for name in names for text in heard.get((name, alias), []))


def _complete(heard: Heard, plane: str) -> bool:
    peer_ = f"peer-{plane}"
    return (
        all(len(_at(heard, f"push-{kind}-{plane}", peer_)) >= 2 * COUNT for kind in ("acked", "quick"))
        and all(len(_at(heard, f"pull-{kind}-{plane}", *PROGRAMS)) >= COUNT for kind in ("acked", "quick"))
        and len(_at(heard, f"ask-{plane}", *PROGRAMS)) >= 2 * ASKED
        and len(_at(heard, f"answer-{plane}", peer_)) >= ASKED
        and all(sum(text[0] == tag for text in heard.get((peer_, f"publish-{plane}"), [])) >= HEARD for tag in "cp")
        and all(len(heard.get((name, f"subscribe-{plane}"), [])) >= HEARD for name in PROGRAMS)
    )


def _assert_exact(heard: Heard, plane: str) -> None:
    """What a plane's agent and the programs of both languages told each other."""
    peer_ = f"peer-{plane}"
    for kind in ("acked", "quick"):
        assert _at(heard, f"push-{kind}-{plane}", peer_) == numbered("cp", COUNT)
        assert _at(heard, f"pull-{kind}-{plane}", *PROGRAMS) == numbered(plane, COUNT)
    assert _at(heard, f"answer-{plane}", peer_) == numbered(plane, ASKED, "ok:")
    for name in PROGRAMS:
        assert _at(heard, f"ask-{plane}", name) == numbered(TAGS[name], ASKED, f"{plane}:")
        for alias in (f"pull-acked-{plane}", f"pull-quick-{plane}", f"answer-{plane}"):
            assert heard.get((name, alias)), f"{name} got nothing on {alias}"
        _assert_gapless(name, heard[name, f"subscribe-{plane}"])
    _assert_gapless(peer_, heard[peer_, f"publish-{plane}"])


def _assert_gapless(name: str, texts: list[str]) -> None:
    """Each publisher's numbers follow each other from the first that was heard."""
    for tag in {text[0] for text in texts}:
        numbers = [int(text[1:]) for text in texts if text[0] == tag]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"{name} missed publications of {tag}"
