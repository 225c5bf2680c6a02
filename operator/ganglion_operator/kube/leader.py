"""One active operator, by a Lease of coordination.k8s.io. A lost Lease ends the process: nothing half-done goes on beside the new leader."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

from ganglion_operator.core.kinds import LEASE, Body, Key
from ganglion_operator.kube.errors import ApiError, ApiUnavailableError
from ganglion_operator.kube.port import KubernetesPort

logger = logging.getLogger(__name__)

# The defaults of client-go's leader election.
LEASE_SECONDS = 15.0
RENEW_SECONDS = 10.0
RETRY_SECONDS = 2.0
RELEASE_SECONDS = 2.0
"""A process that ends does not wait longer: the Lease ends by itself."""


class LeaseLostError(Exception):
    """Another process may lead now."""


class LeaderLease:
    """Acquires, renews and releases one Lease.

    Expiry is judged by the own clock since the holder's record last changed, so clocks of nodes need not agree.
    """

    def __init__(
        self, port: KubernetesPort, namespace: str, name: str, identity: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._port = port
        self._key = Key(LEASE.kind, namespace, name)
        self._identity = identity
        self._clock = clock
        self._seen: tuple[str, str] | None = None
        self._seen_at = 0.0
        self._renewed = 0.0
        self._version = ""
        self._transitions = 0

    async def acquire(self) -> None:
        """Return when this process leads."""
        told = False
        while True:
            try:
                if await self._try():
                    logger.info("Leading as %s", self._identity)
                    return
                if not told:
                    logger.info("Waiting for the Lease %s, held by another process", self._key.name)
                    told = True
            except (ApiError, ApiUnavailableError) as error:
                logger.warning("The Lease %s could not be read or written: %s", self._key.name, error)
            await asyncio.sleep(RETRY_SECONDS * (1 + 0.2 * random.random()))  # noqa: S311 - not for security

    async def keep(self) -> None:
        """Renew until cancelled.

        Raises:
            LeaseLostError: the Lease has another holder, or could not be renewed for so long that another may have taken it.
        """
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                async with asyncio.timeout(max(0.1, self._renewed + RENEW_SECONDS - self._clock())):
                    held = await self._try()
            except (ApiError, ApiUnavailableError, TimeoutError) as error:
                if self._clock() - self._renewed >= RENEW_SECONDS:
                    raise LeaseLostError(f"the Lease {self._key.name} was not renewed for {RENEW_SECONDS:.0f} s") from error
                logger.warning("The Lease %s was not renewed: %s", self._key.name, error or type(error).__name__)
                continue
            if not held:
                raise LeaseLostError(f"the Lease {self._key.name} has another holder")

    async def release(self) -> None:
        """Give the Lease up, so that the next process need not wait for its end. Never raises."""
        if not self._version:
            return
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._port.patch(LEASE, self._key, {"metadata": {"resourceVersion": self._version}, "spec": spec})
        except (ApiError, ApiUnavailableError, TimeoutError) as error:
            logger.warning("The Lease %s was not released: %s", self._key.name, error or "no answer")
        self._version = ""

    async def _try(self) -> bool:
        """One attempt to take or renew the Lease; whether this process holds it afterwards."""
        started = self._clock()
        try:
            lease = await self._port.get(LEASE, self._key.namespace, self._key.name)
        except ApiError as error:
            if not error.not_found:
                raise
            return await self._write(None, started)
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        self._transitions = int(spec.get("leaseTransitions") or 0)
        record = (holder, str(spec.get("renewTime")))
        if record != self._seen:
            self._seen, self._seen_at = record, started
        duration = float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)
        if holder not in ("", self._identity) and started < self._seen_at + duration:
            self._version = ""
            return False
        return await self._write(lease, started)

    async def _write(self, lease: Body | None, started: float) -> bool:
        holder = ((lease or {}).get("spec") or {}).get("holderIdentity") or ""
        spec: Body = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "renewTime": _now(),
            "leaseTransitions": self._transitions + (holder != self._identity),
        }
        if holder != self._identity:
            spec["acquireTime"] = spec["renewTime"]
        try:
            if lease is None:
                metadata = {"name": self._key.name, "namespace": self._key.namespace}
                body = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
                stored = await self._port.create(LEASE, body)
            else:
                # With the version that was read: of two processes one loses.
                metadata = {"resourceVersion": lease["metadata"]["resourceVersion"]}
                stored = await self._port.patch(LEASE, self._key, {"metadata": metadata, "spec": spec})
        except ApiError as error:
            if not error.conflict:
                raise
            self._version = ""
            return False
        self._version = stored["metadata"]["resourceVersion"]
        self._renewed = started
        self._seen, self._seen_at = (self._identity, spec["renewTime"]), started
        return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
