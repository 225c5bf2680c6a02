"""The directory of agents that programs make: a process beside the name server, and the secret that admits to it.

A process of its own, because it serves what calls and proxies speak (`ganglion.imperative`), which the name server never loads.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import sys
from typing import Any, Literal, Protocol

from ganglion.runtime.errors import ConfigurationError
from ganglion.runtime.sockets import CurveKeys
from ganglion.wire.control import AdHocTerms

log = logging.getLogger(__name__)

START_SECONDS = 60.0
END_SECONDS = 3.0
TAKEN_SECONDS = 10.0
"""For how long an address may be somebody else's at the start."""
LOOK_SECONDS = 0.2
AGAIN_SECONDS = 1.0
"""Between two starts of a directory that ends by itself."""
MAX_LINE_BYTES = 1 << 20
"""Of what it says: names of all copies are some tens of kilobytes."""


class Desk(Protocol):
    """What is done about what the directory says."""

    def begin(self) -> None:
        """A directory has begun to serve."""
        ...

    def hear(self, message: Any) -> None:
        """One message, as JSON has it; anything is possible."""
        ...


def ad_hoc_secret(keys: CurveKeys, uid: str) -> str:
    """What admits to the agents that programs of this domain make. It follows from the name server's own key: nothing is stored, a
    restarted name server gives the same one, and nobody who has it can tell that key.

    Args:
        keys: of the name server.
        uid: of the NameServer.
    """
    return hashlib.blake2b(uid.encode(), key=keys.secret.encode(), digest_size=32, person=b"ganglion-ad-hoc").hexdigest()


class AdHocDirectory:
    """Keeps the process running. Runs in the server's loop.

    Args:
        address: `tcp://IP:port` to bind; port `*` is any free one.
        keys: of the name server.
        uid: of the NameServer.
        desk: hears what it says.
        relay: host:port where programs outside of the cluster come in by forwarded ports; empty: nowhere.
    """

    def __init__(self, address: str, keys: CurveKeys, uid: str, desk: Desk, relay: str = "") -> None:
        self._address = address
        self._relay = relay
        self._desk = desk
        self._listening: asyncio.Task[None] | None = None
        self._secret = ad_hoc_secret(keys, uid)
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ending = False

    async def start(self) -> None:
        """Returns when it serves.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + TAKEN_SECONDS
        while True:
            try:
                self._address = await self._begin()
                break
            except ConfigurationError:
                # The directory of a name server that was killed sees the end of its input a moment later.
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(LOOK_SECONDS)
        self._keeper = asyncio.create_task(self._keep(), name="ad-hoc-directory")

    def terms(self, remote_code: Literal["Forbidden", "Signed", "Trusted"]) -> AdHocTerms:
        """What members are told."""
        return AdHocTerms(port=int(self._address.rpartition(":")[2]), secret=self._secret, remote_code=remote_code)

    async def _begin(self) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ganglion.imperative.directory",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"address": self._address, "secret": self._secret, "relay": self._relay}).encode() + b"\n")
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        if not line.startswith(b"tcp://"):
            await self._end(process)
            raise ConfigurationError(f"GANGLION_AD_HOC_ADDRESS: {self._address}: {line.decode(errors='replace').strip() or 'no answer'}")
        endpoint = line.decode().strip()
        log.info("directory of agents that programs make serves on %s", endpoint)
        self._desk.begin()
        self._listening = asyncio.create_task(self._listen(process.stdout), name="ad-hoc-directory-says")
        return endpoint

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                log.warning("the directory of agents that programs make said more than %d bytes at once", MAX_LINE_BYTES)
                continue
            if not line:
                return
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            self._desk.hear(message)

    def tell(self, message: dict[str, Any]) -> bool:
        """Say something to the directory; False when it does not listen now. Never blocks."""
        stdin = self._process.stdin if self._process is not None and self._listening is not None else None
        if stdin is None or stdin.is_closing() or stdin.transport.get_write_buffer_size() > MAX_LINE_BYTES:
            return False
        stdin.write(json.dumps(message).encode() + b"\n")
        return True

    async def _keep(self) -> None:
        while not self._ending:
            assert self._process is not None
            code = await self._process.wait()
            await self._stop_listening()
            if self._ending:
                return
            # Its agents come back with their next beat.
            log.warning("the directory of agents that programs make ended with %d; starting it again", code)
            await asyncio.sleep(AGAIN_SECONDS)
            try:
                await self._begin()
            except (ConfigurationError, OSError) as error:
                log.error("the directory of agents that programs make: %s", error)  # noqa: TRY400 - one line is all there is to say

    def shut_down(self) -> None:
        """The domain ends: its agents are told so. Never blocks."""
        self._ending = True
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(b"shutdown\n")

    async def close(self) -> None:
        """Idempotent."""
        self._ending = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._stop_listening()
        if self._process is not None:
            await self._end(self._process)

    async def _stop_listening(self) -> None:
        # What a former directory has said must not be heard after the next one has begun.
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is not None:
            # The end of its input is what it ends by, also when this process was killed.
            process.stdin.close()
            with contextlib.suppress(OSError):
                await process.stdin.wait_closed()
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
