"""Topics: a handler for each, and subscriptions that change while it runs."""

from ganglion import run_agent, run_nameserver
from ganglion.helper import wait_agent_attr


def note(agent, message, topic):
    agent.seen.append((topic.decode(), message))


def publish_until_seen(publisher, subscriber, topic):
    """A subscription reaches its publisher a moment after it was made: what was published before then is not for it."""
    while (topic, "hello?") not in subscriber.get_attr("seen"):
        publisher.send("news", "hello?", topic=topic)
    publisher.send("news", "here we go", topic=topic)
    wait_agent_attr(subscriber, "seen", data=(topic, "here we go"))
    subscriber.set_attr(seen=[])


if __name__ == "__main__":
    ns = run_nameserver()
    press = run_agent("Press")
    reader = run_agent("Reader", attributes={"seen": []})

    reader.connect(press.bind("PUB", alias="news"), alias="paper", handler={"sport": note, "weather": note})
    publish_until_seen(press, reader, "sport")
    publish_until_seen(press, reader, "weather")

    press.send("news", "3:1", topic="sport")
    press.send("news", "a sonata", topic="music")
    press.send("news", "rain", topic="weather")
    wait_agent_attr(reader, "seen", length=2)
    print("reads sport and weather:", reader.get_attr("seen"))

    reader.set_attr(seen=[])
    reader.unsubscribe("paper", "sport")
    reader.subscribe("paper", {"music": note})
    publish_until_seen(press, reader, "music")
    press.send("news", "0:0", topic="sport")
    press.send("news", "a fugue", topic="music")
    wait_agent_attr(reader, "seen", length=1)
    print("reads weather and music:", reader.get_attr("seen"))

    ns.shutdown()
