"""Three agents and the three patterns: PushPull, RequestReply and PubSub.

shop --orders--> packer --ask--> stock, and packer --news--> stock
"""

from __future__ import annotations

from typing import Any

from ganglion import Agent


class Shop(Agent):
    """Sends an order every half second until it has sent `wanted`, an attribute of the manifest."""

    wanted: int

    def on_init(self) -> None:
        self.sent = 0
        self.each(0.5, self.order)

    def order(self) -> None:
        self.sent += 1
        self.send("orders", {"id": self.sent, "item": ("apple", "pear")[self.sent % 2]})
        if self.sent == self.wanted:
            self.shutdown()  # with `run: Once`: completed


class Packer(Agent):
    """Asks the stock before it tells everybody."""

    def pack(self, order: dict[str, Any]) -> None:
        left = self.send_recv("ask", order["item"], timeout=5)
        self.send("news", {"id": order["id"], "left": left}, topic="packed/" + order["item"])


class Stock(Agent):
    """Knows what is left, and prints the news."""

    def on_init(self) -> None:
        self.left = {"apple": 100, "pear": 100}

    def take(self, item: str) -> int:
        """What a Rep handler returns is the reply."""
        self.left[item] -= 1
        return self.left[item]

    def seen(self, news: dict[str, Any], topic: bytes) -> None:
        """A topic arrives as bytes."""
        print(topic.decode(), news, flush=True)
