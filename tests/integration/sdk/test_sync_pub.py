"""SyncPub with real processes: replies among publications under load, late subscribers, errors, deaths and ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.agents import World, world
from tests.support.wirings import channel

pytestmark = pytest.mark.timeout(180)

CODE = """
    import asyncio
    from ganglion import Agent, AliasError, HandlerError

    def show(*values):
        print("SHOW", *values, flush=True)

    class Board(Agent):
        '''Counts without a pause, on two topics in turn; a reply tells how far it is.'''

        def on_init(self):
            self.count = 0
            self.each(0.001, self.burst)

        def burst(self):
            for _ in range(3):
                self.count += 1
                self.send("feed", self.count, topic="odd" if self.count % 2 else "even")

        def answer(self, question):
            if question == "fail":
                raise KeyError("no such thing")
            if question in ("hang", "stay"):
                show(question + "s")
                return asyncio.sleep(60)
            if question == "later":
                return self.later()
            if question == "early":
                return self.early()
            return self.count

        async def later(self):
            await asyncio.sleep(0.01)
            return self.count

        def early(self):
            yield self.count
            self.send("feed", -1, topic="odd")
            show("after the reply")
            raise ValueError("after the reply")

    class Viewer(Agent):
        '''Each reply must lie between the publication that it tells and the next.'''

        rounds = 25

        def on_init(self):
            self.last = None
            self.left = {kind: self.rounds for kind in ("plain", "later", "await")}
            self.send("feed", "plain", handler=self.replied, wait=60)
            self.send("feed", "later", handler="replied_later", wait=60)

        def before_loop(self):
            for wrong in (lambda: self.send_recv("feed", 1), lambda: self.request("feed", 1).send(None)):
                try:
                    wrong()
                except AliasError as error:
                    show("before", "nothing is received before the loop begins" in str(error))
            self.after(0.0, self.ask)

        def heard(self, count):
            if count < 0:
                return
            if self.last is not None:
                self.check(count == self.last + 1, "after", self.last, count)
                self.last = count

        def check(self, right, *what):
            if not right:
                show("wrong", *what)

        def is_at(self, count, kind):
            # What came before the first reply may have been incomplete.
            self.check(self.last in (None, count), "before", self.last, count)
            self.last = count
            self.left[kind] -= 1
            if not any(self.left.values()):
                self.shutdown()
            return self.left[kind] > 0

        def replied(self, count):
            if self.is_at(count, "plain"):
                self.send("feed", "plain", handler=self.replied, wait=60)

        def replied_later(self, count):
            if self.is_at(count, "later"):
                self.send("feed", "later", handler=self.replied_later, wait=60)

        async def ask(self):
            try:
                self.send_recv("feed", 1)
            except AliasError as error:
                show("handler", "a handler cannot wait for it" in str(error))
            while self.is_at(await asyncio.wait_for(self.request("feed", "await", 60), 60), "await"):
                pass

        def on_exit(self):
            show("checked", self.left, self.last is not None)
            try:
                self.send("feed", 1, handler=self.replied)
            except Exception as error:
                show(type(error).__name__)

    class Late(Agent):
        '''Subscribes to one topic after the other: a reply is behind nothing that is missed.'''

        def on_init(self):
            self.seen = []
            self.rounds = self.reply = 0

        def before_loop(self):
            self.ask()

        def ask(self):
            self.topic = "even" if self.rounds % 2 else "odd"
            self.subscribe("feed", self.topic)
            self.seen.clear()
            self.send("feed", "plain", handler=self.replied, wait=60)

        def replied(self, count):
            self.reply = count
            self.seen.clear()

        def heard(self, count, topic):
            self.seen.append(count)
            if len(self.seen) == 10 and self.reply:
                first = self.reply + 1
                if first % 2 != (self.topic == "odd"):
                    first += 1
                right = self.seen == list(range(first, first + 20, 2)) and topic == self.topic.encode()
                if not right:
                    show("wrong", self.reply, self.topic, topic, self.seen)
                self.unsubscribe("feed", self.topic)
                self.reply, self.rounds = 0, self.rounds + 1
                if self.rounds == 8:
                    show("done")
                    self.shutdown()
                else:
                    self.ask()

    class Errs(Agent):
        def before_loop(self):
            self.send("feed", "fail", handler=self.never, wait=60, on_error=self.failed)

        def heard(self, count):
            pass

        def never(self, reply):
            show("never", reply)

        async def failed(self):
            show("failed")
            try:
                await self.request("feed", "fail", 60)
            except Exception as error:
                show(error.type, error.message)
            early = await self.request("feed", "early", 60)
            show("early", early >= 0)
            for wrong in (lambda: self.recv("feed"), lambda: self.send("feed", 1)):
                try:
                    wrong()
                except AliasError as error:
                    show(error)
            self.send("feed", "hang", handler=self.never, wait=0.3, on_error=self.timed_out)

        async def timed_out(self):
            show("timed out")
            self.send("feed", "stay", handler=self.never, wait=300, on_error=lambda agent: show("over"))
            show("asked")

    def watch(agent):
        agent.handle("feed", lambda agent, count: seen.append(count))
        seen = []
        for _ in range(20):
            reply = agent.send_recv("feed", "plain", 60)
            if seen and seen[-1] != reply:
                show("wrong", reply, seen[-1])
            while not seen or seen[-1] < reply + 3:
                agent.send_recv("feed", "later", 60)
        show("watched", seen == list(range(seen[0], seen[-1] + 1)))

    def only_reads(agent):
        topic, count = agent.recv("feed")
        show("reads", topic, count > 0)
        try:
            agent.send_recv("feed", "plain")
        except AliasError as error:
            show(error)

    class Silent(Agent):
        pass

    class Refused(Agent):
        def before_loop(self):
            self.after(0.0, self.ask)

        def heard(self, count):
            pass

        async def ask(self):
            try:
                await self.request("feed", 1, 60)
            except Exception as error:
                show(error.type, error.message)
            self.shutdown()
"""


@pytest.fixture
def here() -> Iterator[World]:
    with world(CODE) as made:
        yield made


def _shown(text: str) -> list[str]:
    return [line.removeprefix("SHOW ") for line in text.splitlines() if line.startswith("SHOW ")]


DEEP = {"high_water_mark": 100_000}
"""A busy machine may let a subscriber wait; what must not be missed here is order."""
PUBLISHES = [
    channel("feed", "feed", "Pub", bind=True, inward="feed.in", **DEEP),
    channel("feed.in", "feed/back", "Rep", bind=True, handler="answer"),
]
ASKS = channel("feed", "feed/back", "Req", bind=False, inward="feed.in")
HEARS = [ASKS, channel("feed.in", "feed", "Sub", bind=False, handler="heard", **DEEP)]
POLLS = [ASKS, channel("feed.in", "feed", "Sub", bind=False, **DEEP)]
PLANES = pytest.mark.parametrize("plane", ["InProcess", "Sidecar"])


@PLANES
def test_replies_have_their_place_among_publications(here: World, plane: str) -> None:
    """Two from the start, a third while they ask, and one that changes its topics."""
    board = here.start(here.declare("board", *PUBLISHES, target="agents:Board", data_plane=plane))
    viewers = here.declare("viewer", *HEARS, target="agents:Viewer", replicas=3, data_plane=plane)
    late = [ASKS, channel("feed.in", "feed", "Sub", bind=False, handler="heard", topics=(), **DEEP)]
    late_document = here.declare("late", *late, target="agents:Late", data_plane=plane)
    asking = [here.start(viewers, index=index) for index in range(2)]
    asking[0].says("SHOW before", times=2, timeout=60)
    asking += [here.start(viewers, index=2), here.start(late_document)]
    for one in asking:
        one.ends(0, timeout=90)
    for viewer in asking[:-1]:
        assert _shown(viewer.output) == [
            "before True",
            "before True",
            "handler True",
            "checked {'plain': 0, 'later': 0, 'await': 0} True",
            "ChannelClosed",
        ]
    assert _shown(asking[-1].output) == ["done"]
    board.signal()
    board.ends(0)


@PLANES
def test_what_goes_wrong_is_told_at_once(here: World, plane: str) -> None:
    board = here.start(here.declare("board", *PUBLISHES, target="agents:Board", data_plane=plane))
    document = here.declare("errs", *HEARS, target="agents:Errs", replicas=2, data_plane=plane, drain_timeout_seconds=300)
    one, other = here.start(document), here.start(document, index=1)
    for client in (one, other):
        client.says("SHOW asked", timeout=60)
    # Each waits for one more. (What it gave up before may have been taken back before it was handled.)
    board.says("SHOW stays", times=2, timeout=60)
    assert _shown(one.output) == [
        "failed",
        "KeyError 'no such thing'",
        "early True",
        "channel 'feed': its messages go to a handler; recv() is for channels without one",
        "channel 'feed': role SyncSub cannot send by itself; use send_recv, `await request`, or give send() a handler for the reply",
        "timed out",
        "asked",
    ]
    assert "ValueError: after the reply" in board.output
    # They would wait for 300 s. Who leaves does not wait for what it would not hear,
    other.signal()
    other.ends(0, timeout=60)
    assert _shown(other.output)[-1] == "over"
    # and the others do not wait for who is gone.
    board.kill()
    one.says("SHOW over", timeout=60)


def test_functions_ask_and_poll(here: World) -> None:
    here.start(here.declare("board", *PUBLISHES, target="agents:Board"))
    watcher = here.start(here.declare("watch", *POLLS, target="agents:watch", run="Once"))
    reader = here.start(here.declare("reads", *POLLS, target="agents:only_reads", run="Once"))
    for one in (watcher, reader):
        one.ends(0)
    assert _shown(watcher.output) == ["watched True"]
    assert _shown(reader.output) == [
        "reads b'odd' True" if "b'odd'" in reader.output else "reads b'even' True",
        "channel 'feed': has no handler for its publications, so a reply has no place among them; give it one, or only recv()",
    ]


def test_a_publisher_without_a_handler_refuses(here: World) -> None:
    silent = [PUBLISHES[0], channel("feed.in", "feed/back", "Rep", bind=True)]
    server = here.start(here.declare("silent", *silent, target="agents:Silent"))
    client = here.start(here.declare("refused", *HEARS, target="agents:Refused"))
    client.ends(0)
    assert _shown(client.output) == ["ganglion.sdk.errors.HandlerError channel 'feed': this publisher has no handler for requests"]
    server.signal(signal.SIGTERM)
    server.ends(0)
