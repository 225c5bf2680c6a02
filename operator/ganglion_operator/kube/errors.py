"""What can go wrong with a call to the Kubernetes API, told apart by what to do about it."""

from __future__ import annotations


class ApiError(Exception):
    """The API server refused.

    Attributes:
        status: HTTP status code.
        reason: Kubernetes' own reason, e.g. AlreadyExists.
        retry_after: seconds that the server asks to wait; None when it does not.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def not_found(self) -> bool:
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """AlreadyExists, a stale resource version, or another uid than the one named."""
        return self.status == 409

    @property
    def namespace_ending(self) -> bool:
        """The namespace is being deleted: nothing can be made in it any more."""
        return self.status == 403 and "is being terminated" in self.message

    @property
    def terminal(self) -> bool:
        """A retry alone does not help: somebody must change a manifest or a permission."""
        return self.status in (400, 403, 405, 413, 422) and not self.namespace_ending


class ApiUnavailableError(Exception):
    """No answer: connection refused or lost, or no answer in time."""
