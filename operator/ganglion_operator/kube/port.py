"""The seam between the operator and the Kubernetes API: ten methods on plain JSON objects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from ganglion_operator.core.actions import Notice
from ganglion_operator.core.kinds import Body, Key, Kind
from ganglion_operator.core.snapshot import TokenKeys


class Page(NamedTuple):
    """Part of a list."""

    items: list[Body]
    version: int
    """`resourceVersion` of the whole list."""


class KubernetesPort(Protocol):
    """Every call is bounded in time.

    Raises (all methods):
        ApiError: the API server refused.
        ApiUnavailableError: no answer in time.
    """

    async def get(self, kind: Kind, namespace: str, name: str) -> Body: ...

    def list(self, kind: Kind, namespace: str | None) -> AsyncIterator[Page]:
        """All objects that concern the operator (`kind.selector`), in chunks."""
        ...

    async def create(self, kind: Kind, body: Body) -> Body: ...

    async def apply(self, kind: Kind, body: Body) -> Body:
        """Server-side apply with the operator's field manager; conflicts are won. `body` carries `metadata.uid`."""
        ...

    async def apply_status(self, kind: Kind, body: Body) -> Body:
        """The same for the status subresource."""
        ...

    async def patch(self, kind: Kind, key: Key, body: Body) -> Body:
        """Merge patch. With `metadata.uid` or `metadata.resourceVersion` in `body` it fails with a conflict when they differ."""
        ...

    async def delete(self, kind: Kind, key: Key, uid: str, grace: int | None) -> None:
        """Delete this life of the object; dependants go in the background. `grace` in seconds, None for the object's own."""
        ...

    async def post_event(self, about: Body, notice: Notice) -> None:
        """An Event (events.k8s.io/v1) about an object."""
        ...

    async def token_keys(self) -> TokenKeys:
        """Issuer and public keys of ServiceAccount tokens."""
        ...

    async def close(self) -> None: ...
