"""Papers and readers that do not know each other: all they know is the forwarder between them.

Run it with `python examples/forwarder/forwarder.py`.
"""

from ganglion import Agent, run_agent, run_forwarder, run_nameserver
from ganglion.helper import wait_agent_attr


class Reader(Agent):
    def on_init(self):
        self.seen = set()

    def read(self, message, topic):
        self.seen.add(f"{topic.decode()}: {message}")


def publish_until_read(paper, text, topic, reader):
    """A subscription reaches a publisher a moment after it was made: what was published before then is not for it."""
    while f"{topic}: {text}" not in reader.get_attr("seen"):
        paper.send("news", text, topic=topic)


if __name__ == "__main__":
    ns = run_nameserver()
    kiosk = run_forwarder("Kiosk")
    ann, bea = run_agent("Ann", base=Reader), run_agent("Bea", base=Reader)
    ann.connect(kiosk.addr("subscribers"), handler={"sport": "read"})
    bea.connect(kiosk.addr("subscribers"), handler={"sport": "read", "weather": "read"})

    # Papers come and go; the readers are not told, and connect to nobody.
    times, herald = run_agent("Times"), run_agent("Herald")
    for paper in (times, herald):
        paper.connect(kiosk.addr("publishers"), alias="news")

    publish_until_read(times, "rain", "weather", bea)
    publish_until_read(herald, "3:1", "sport", ann)
    wait_agent_attr(bea, "seen", length=2)
    print("Ann:", sorted(ann.get_attr("seen")))
    print("Bea:", sorted(bea.get_attr("seen")))
    print("asked for upstream:", kiosk.topics())
    ns.shutdown()
