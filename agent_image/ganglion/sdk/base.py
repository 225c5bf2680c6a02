"""What an `Agent` asks of whatever runs it. There are two: `ganglion.sdk.core` (manifests) and `ganglion.imperative.core` (programs)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from ganglion.runtime.logs import set_level
from ganglion.sdk.errors import NotSupported

if TYPE_CHECKING:
    from ganglion.sdk.channels import Sender
    from ganglion.sdk.handlers import Handlers


class AgentCore:
    """Every method that a core does not have raises `NotSupported`, which says what to do instead."""

    ADVICE = ""
    """What to do instead."""
    GUARDS_ATTRIBUTES = True
    """`set_attr` refuses names of members."""

    name: str
    replica: str
    log: logging.Logger
    thread: int
    senders: dict[str, Sender]
    stopping: bool

    def unsupported(self, what: str) -> NoReturn:
        """Raise NotSupported for a method of `Agent`."""
        raise NotSupported(f"{what}(): {self.ADVICE}")

    # -- channels of a manifest

    @property
    def aliases(self) -> tuple[str, ...]:
        self.unsupported("channels")

    def unknown(self, alias: Any) -> Sender:
        self.unsupported("send")

    def receiver(self, alias: str, to: str) -> str:
        raise NotSupported(f"send(to={to!r}): {self.ADVICE}; send() on a ROUTER takes the peer as topic")

    @property
    def sent_by(self) -> str | None:
        self.unsupported("sent_by")

    def send_from_thread(self, alias: str, value: Any, topic: str | bytes, timeout: float | None) -> Any:
        self.unsupported("send")

    def send_recv(self, alias: str, value: Any, timeout: float) -> Any:
        self.unsupported("send_recv")

    async def request(self, alias: str, value: Any, timeout: float) -> Any:  # noqa: ASYNC109 - as of Agent
        self.unsupported("request")

    def recv(self, alias: str, timeout: float | None) -> Any:
        self.unsupported("recv")

    async def receive(self, alias: str, timeout: float | None) -> Any:  # noqa: ASYNC109
        self.unsupported("receive")

    def messages(self, alias: str) -> Iterator[Any]:
        self.unsupported("messages")

    def stream(self, alias: str) -> AsyncIterator[Any]:
        self.unsupported("stream")

    def handle(self, alias: str, handlers: Handlers) -> None:
        self.unsupported("handle")

    def subscribe(self, alias: Any, topic: Any) -> None:
        self.unsupported("subscribe")

    def unsubscribe(self, alias: Any, topic: Any) -> None:
        self.unsupported("unsubscribe")

    def flush(self) -> None:
        self.unsupported("flush")

    def end(self, alias: str) -> None:
        self.unsupported("end")

    def wired(self, alias: str) -> int:
        self.unsupported("wired")

    def ended(self, alias: str) -> bool:
        self.unsupported("ended")

    # -- sockets of a program

    def send_request(self, alias: Any, value: Any, topic: Any, handler: Any, wait: float | None, on_error: Any) -> None:
        self.unsupported("send with handler, wait or on_error")

    def bind(self, kind: str, alias: Any, handler: Any, addr: Any, transport: str | None, serializer: str | None) -> Any:
        self.unsupported("bind")

    def connect(self, server: Any, alias: Any, handler: Any) -> Any:
        self.unsupported("connect")

    def addr(self, alias: Any) -> Any:
        self.unsupported("addr")

    def has_socket(self, alias: Any) -> bool:
        self.unsupported("has_socket")

    def close(self, alias: Any, linger: float | None) -> None:
        self.unsupported("close")

    def close_all(self, linger: float | None) -> None:
        self.unsupported("close_all")

    def set_logger(self, logger: Any, alias: str) -> None:
        self.unsupported("set_logger")

    def kill(self) -> None:
        self.unsupported("kill")

    @property
    def running(self) -> bool:
        """In the main loop, and not stopped."""
        raise NotImplementedError

    # -- both

    def watch(self, name: str, handler: Any) -> None:
        raise NotImplementedError

    def unwatch(self, name: str) -> None:
        raise NotImplementedError

    @property
    def watched_names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def each(
        self,
        period: float,
        method: str | Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        alias: str | None,
        delay: float,
    ) -> str:
        raise NotImplementedError

    def after(
        self, delay: float, method: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, alias: str | None
    ) -> str:
        raise NotImplementedError

    def stop_timer(self, alias: str) -> None:
        raise NotImplementedError

    @property
    def timer_aliases(self) -> tuple[str, ...]:
        raise NotImplementedError

    def attribute_set(self, name: str, value: Any) -> None:
        """`set_attr` has set this."""

    def set_log_level(self, level: int) -> None:
        """What is less important than this level of the standard library is not logged from now on. Any thread."""
        set_level(level)

    def log_message(self, level: int, message: object, args: tuple[object, ...], logger: str) -> None:
        """Log at a level of the standard library."""
        self.log.log(level, message, *args)

    def shutdown(self) -> None:
        raise NotImplementedError

    def stop(self) -> Any:
        raise NotImplementedError
