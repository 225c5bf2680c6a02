"""Answers of the API server that cannot be read."""

from __future__ import annotations

import pytest

from ganglion_operator.kube.client import _answer
from ganglion_operator.kube.errors import ApiError, ApiUnavailableError


@pytest.mark.parametrize("data", [b'{"items": [', b"[]", b"<html>"])
def test_an_unreadable_success_is_no_empty_list(data: bytes) -> None:
    with pytest.raises(ApiUnavailableError):
        _answer(200, {}, data, "GET /apis/ganglion.dev/v1/agents")


def test_an_unreadable_refusal_is_still_a_refusal() -> None:
    with pytest.raises(ApiError) as refused:
        _answer(503, {"Retry-After": "3"}, b"<html>", "GET /")
    assert (refused.value.status, refused.value.retry_after) == (503, 3.0)
