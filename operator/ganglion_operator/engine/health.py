"""Whether events still flow, shown by a write that must come back through the watch."""

from __future__ import annotations

import asyncio
import logging

from ganglion.api import GROUP
from ganglion.api.names import LABEL_CODE
from ganglion_operator.core.kinds import CONFIGMAP, Body, Key
from ganglion_operator.engine.context import Engine
from ganglion_operator.engine.resync import Resync
from ganglion_operator.kube.errors import ApiError, ApiUnavailableError

logger = logging.getLogger(__name__)

CANARY_SECONDS = 60.0
"""Between two writes."""
SILENCE_SECONDS = 240.0
"""Without an echo for so long, or without a write that succeeds, liveness fails."""
LAG_SECONDS = 0.5
"""Between two measurements of the event loop's delay."""
MAX_HEALED_ROUNDS = 3
ANNOTATION_CANARY = f"{GROUP}/canary"
CANARY_NAME = "ganglion-operator-canary"


class Health:
    """Canary and loop lag of one operator.

    Args:
        namespace: a namespace that is watched; the canary ConfigMap lives there.
        identity: this process; two operators of a roll-over do not take each other's echoes for their own.
    """

    def __init__(self, engine: Engine, resync: Resync, namespace: str, identity: str) -> None:
        self._engine = engine
        self._resync = resync
        self._key = Key(CONFIGMAP.kind, namespace, CANARY_NAME)
        self._identity = identity
        self._sent = 0
        self._echoed = engine.clock()
        self.lag = 0.0
        """Latest delay of the event loop, in seconds."""

    def heard(self, body: Body) -> None:
        """A ConfigMap came through the watch."""
        metadata = body["metadata"]
        if (metadata.get("namespace"), metadata.get("name")) != (self._key.namespace, self._key.name):
            return
        if (metadata.get("annotations") or {}).get(ANNOTATION_CANARY, "").startswith(f"{self._identity}/"):
            self._echoed = self._engine.clock()
            self._engine.metrics.canary_echoes.inc()

    @property
    def silence(self) -> float:
        """Seconds since an own write was last seen."""
        return self._engine.clock() - self._echoed

    def problem(self) -> str | None:
        """Why the operator should be restarted, or None."""
        if self.silence > SILENCE_SECONDS:
            return f"no write came back through the watch for {self.silence:.0f} s"
        if self._resync.healed_rounds >= MAX_HEALED_ROUNDS:
            return f"{self._resync.healed_rounds} resyncs in a row found what no watch had told"
        return None

    async def run(self) -> None:
        """Write the canary and measure the loop until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_canary(), name="canary")
            group.create_task(self._measure(), name="loop lag")

    async def _write_canary(self) -> None:
        while True:
            self._sent += 1
            text = f"{self._identity}/{self._sent}"
            try:
                await self._send(text)
            except (ApiError, ApiUnavailableError) as error:
                logger.warning("The canary was not written: %s", error)
            await asyncio.sleep(CANARY_SECONDS)

    async def _send(self, text: str) -> None:
        metadata: Body = {"annotations": {ANNOTATION_CANARY: text}}
        try:
            await self._engine.port.patch(CONFIGMAP, self._key, {"metadata": metadata})
        except ApiError as error:
            if not error.not_found:
                raise
            body = {
                "apiVersion": CONFIGMAP.api_version,
                "kind": CONFIGMAP.kind,
                "metadata": {
                    "name": self._key.name,
                    "namespace": self._key.namespace,
                    # The label is what the operator's watch of ConfigMaps selects by.
                    "labels": {LABEL_CODE: "canary"},
                    **metadata,
                },
            }
            await self._engine.port.create(CONFIGMAP, body)

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.lag = max(0.0, loop.time() - due)
