"""The name server as one process: join port, source of the domain, health, and the order of its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from ganglion.nameserver.adhoc import AdHocDirectory
from ganglion.nameserver.admin import AdminSource
from ganglion.nameserver.auth import Authenticator, SecretAuthenticator
from ganglion.nameserver.desk import CopyDesk
from ganglion.nameserver.domain import Domain, DomainSource
from ganglion.nameserver.member import Member
from ganglion.nameserver.options import Options
from ganglion.nameserver.port import JoinPort
from ganglion.nameserver.registry import Registry
from ganglion.runtime.errors import ConfigurationError
from ganglion.runtime.health import HealthServer, Probes
from ganglion.wire.admin import AgentCount, ChannelCount, Copy, PostedNotice, Status
from ganglion.wire.control import Notice

if TYPE_CHECKING:
    from ganglion.nameserver.metrics import NameServerMetrics

log = logging.getLogger(__name__)

MAX_NOTICES = 256
_LOOK_SECONDS = 0.1
_STUCK_SECONDS = 30.0
_BYE_LINGER_SECONDS = 1.0
"""What is queued for members (acknowledged goodbyes) gets so long at the end."""


class NameServer:
    """One domain's name server. Make it and call `run` in an event loop.

    Args:
        options: who it is and where its files are.
    Raises:
        ConfigurationError: a file of `options` is missing or wrong.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        keys = options.keys()
        self.registry = Registry(time.monotonic(), curve=keys is not None)
        self.port = JoinPort(self.registry, _authenticator(options), keys, self._noticed)
        self.desk = CopyDesk(f"{options.namespace}/{options.name}", self._refused)
        self._ad_hoc: AdHocDirectory | None = None
        if options.ad_hoc_address and keys is not None:
            self._ad_hoc = AdHocDirectory(options.ad_hoc_address, keys, options.uid, self.desk, options.ad_hoc_relay)
            self.desk.tell = self._ad_hoc.tell
        self.source: DomainSource
        self._health = HealthServer(Probes(startup=self._listens, ready=self._knows, live=self._ticks, metrics=self._metrics))
        self._exposition: NameServerMetrics | None = None
        self._notices: deque[PostedNotice] = deque(maxlen=MAX_NOTICES)
        self._notice_number = 0
        self._wake = asyncio.Event()
        self._signals = 0
        self._announced = ""

    async def run(self) -> int:
        """Serve until the end. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        source: asyncio.Task[None] | None = None
        try:
            self.source = self._make_source()
            if self._ad_hoc is not None:
                # Before the first join, so that each member is told of it.
                await self._ad_hoc.start()
                self.registry.ad_hoc = self._ad_hoc.terms(self.options.remote_code)
            self.port.open(self.options.join_address)
            self.registry.opened(time.monotonic())
            log.info(
                "name server %s/%s serves on %s (epoch %s)",
                self.options.namespace,
                self.options.name,
                self.port.endpoint,
                self.registry.epoch,
            )
            if self.options.health_port:
                await self._health.start(self.options.health_port)
            source = asyncio.create_task(self.source.run(), name="domain-source")
            source.add_done_callback(self._source_ended)
            await self._until_the_end()
            return 0
        finally:
            if source is not None:
                source.remove_done_callback(self._source_ended)
                source.cancel()
                await asyncio.gather(source, return_exceptions=True)
            if hasattr(self, "source"):
                await self.source.close()
            await self._health.stop()
            self.port.close(_BYE_LINGER_SECONDS)
            if self._ad_hoc is not None:
                await self._ad_hoc.close()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    # -- the end -------------------------------------------------------------------------------------------------------------------

    async def _until_the_end(self) -> None:
        while True:
            phase = self.registry.phase(time.monotonic())
            if phase != self._announced:
                self._announced = phase
                log.info("%s, %d members", phase, len(self.registry))
                if self._ad_hoc is not None and phase != "Serving":
                    self._ad_hoc.shut_down()
            self.desk.tick()
            self.source.status_changed()
            if phase == "Empty" and (self._signals or self.options.admin_socket is not None):
                # In a cluster an exit before SIGTERM would only restart the container.
                return
            if self._signals > 1:
                return
            if self._signals and phase == "Serving" and not await self._deleting():
                log.info("stopping; members keep their channels and will join the next name server")
                return
            # A signal ends the wait at once; a phase may change with time alone.
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()

    async def _deleting(self) -> bool:
        if not await self.source.deleting():
            return False
        self.registry.shut_down(time.monotonic(), self.options.shutdown_timeout)
        self.port.pump()
        return True

    def _signalled(self) -> None:
        self._signals += 1
        self._wake.set()

    def _source_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            # Without a source the domain would be frozen for ever: a restart is better and loses nothing.
            log.error("the source of the domain failed", exc_info=task.exception())
            self._signals = 2
            self._wake.set()

    # -- the domain ----------------------------------------------------------------------------------------------------------------

    def _make_source(self) -> DomainSource:
        if self.options.admin_socket is not None:
            return AdminSource(self.options.admin_socket, on_domain=self.set_domain, on_shutdown=self.shut_down, status=self.status)
        from ganglion.api.structure import allow_deep_json
        from ganglion.nameserver.kube import KubernetesSource

        allow_deep_json()
        return KubernetesSource.from_pod(
            self.options.name, self.options.namespace, self.options.uid, on_domain=self.set_domain, counts=self
        )

    def set_domain(self, domain: Domain) -> None:
        """The source has news."""
        self.desk.declare(domain)
        self.registry.set_domain(domain, time.monotonic())
        self.port.pump()

    def shut_down(self, timeout: float) -> None:
        """The supervisor wants the end within `timeout` seconds."""
        self.registry.shut_down(time.monotonic(), timeout)
        self.port.pump()

    # -- probes --------------------------------------------------------------------------------------------------------------------

    def _listens(self) -> str:
        return "" if self.port.endpoint else "the join port is not bound yet"

    def _knows(self) -> str:
        return self._listens() or ("" if self.registry.domain is not None else "the domain is not known yet")

    def _ticks(self) -> str:
        silent = time.monotonic() - self.port.last_tick
        return "" if silent < _STUCK_SECONDS else f"the loop stood still for {silent:.0f} s"

    def _metrics(self) -> bytes:
        if self._exposition is None:
            from ganglion.nameserver.metrics import NameServerMetrics

            self._exposition = NameServerMetrics(self, self.port.counts)
        return self._exposition.render()

    # -- state for people ----------------------------------------------------------------------------------------------------------

    def _noticed(self, member: Member, notice: Notice) -> None:
        self._post(member.replica, notice)

    def _refused(self, text: str) -> None:
        self._post("", Notice(reason="TemplateRefused", channel="", message=text))

    def _post(self, replica: str, notice: Notice) -> None:
        self._notice_number += 1
        posted = PostedNotice(
            number=self._notice_number,
            replica=replica,
            reason=notice.reason[:128],
            channel=notice.channel[:63],
            message=notice.message[:1024],
            count=notice.count,
        )
        # For people it is the source that posts it: as an Event, or in the terminal.
        log.info("%s: %s: %s (channel %s, %d)", posted.replica, posted.reason, posted.message, posted.channel, posted.count)
        self._notices.append(posted)
        self.source.post(posted)

    def members_count(self) -> int:
        """Live replicas."""
        return len(self.registry)

    def agent_counts(self) -> list[AgentCount]:
        """By name."""
        return self.registry.agents()

    def channel_counts(self) -> list[ChannelCount]:
        """By name."""
        return self.registry.channels()

    def copies(self) -> list[Copy]:
        """Copies of templates that are wanted."""
        return self.desk.copies.listed()

    def refused(self) -> int:
        """Asks for copies that were refused."""
        return self.desk.copies.refused

    def status(self, notices_after: int = 0) -> Status:
        """Everything, for the admin socket."""
        return Status(
            request=0,
            epoch=self.registry.epoch,
            endpoint=self.port.endpoint,
            phase=self.registry.phase(time.monotonic()),
            members=self.registry.members(),
            agents=self.registry.agents(),
            channels=self.registry.channels(),
            notices=[notice for notice in self._notices if notice.number > notices_after],
            copies=self.copies(),
        )


def _authenticator(options: Options) -> Authenticator:
    try:
        if options.join_secret_file is not None:
            return SecretAuthenticator(options.join_secret_file)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    jwks = options.jwks_file
    assert isinstance(jwks, Path)
    from ganglion.nameserver.tokens import TokenAuthenticator

    return TokenAuthenticator(jwks, issuer=options.token_issuer, namespace=options.namespace, uid=options.uid, name=options.name)
