"""Where Ganglion differs from osBrain on purpose: each is a line of docs/osbrain.md, named by its id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Difference:
    """One scenario's accepted difference.

    Attributes:
        line: id of the line in docs/osbrain.md.
        ours: what Ganglion's transcript holds instead, for the keys that differ.
    """

    line: str
    ours: Mapping[str, Any]


def _raises(name: str, **says: bool) -> dict[str, Any]:
    """What an error of this type looks like in a transcript; a derived type is as good."""
    return {"raises": name, "bases": [], "says": says}


_GOES_ON = {"running": True}

ACCEPTED: dict[str, Difference] = {
    "aliases.addr_after_close": Difference("closed-alias", {"addr": _raises("KeyError")}),
    "aliases.an_unknown_transport": Difference("unknown-transport", {"bind": _raises("ValueError")}),
    "aliases.fate_after_addr_of_an_unknown_alias": Difference("errors-go-on", _GOES_ON),
    "handling.fate_after_a_failing_handler": Difference("errors-go-on", {**_GOES_ON, "safe call": ["no error", "pong"]}),
    "handling.handler_name_set_as_method": Difference("added-methods-handle", {"bind": ["no error", "PULL"]}),
    "handling.a_handler_of_no_requests_that_yields": Difference("handlers-that-yield", {"bind": _raises("HandlerError")}),
    "lifecycle.fate_after_an_exception": Difference("errors-go-on", _GOES_ON),
    "proxies.a_method_that_another_proxy_set": Difference("members-for-all", {"other proxy": ["no error", 7]}),
    "proxies.a_proxy_made_later_sees_all_methods": Difference("members-for-all", {"later": ["no error", 7]}),
    "proxies.an_attribute_that_another_proxy_set": Difference("members-for-all", {"attribute": ["no error", "red"]}),
    "proxies.proxies_are_copied": Difference("copied-proxies", {"ping": ["no error", "pong"]}),
    "pubsub.a_topic_with_the_byte_80": Difference("any-topic", {"received": [[1]]}),
    "remote_errors.fate_after_an_error_of_a_safe_call": Difference("errors-go-on", {**_GOES_ON, "next call": ["no error", "pong"]}),
    "requestreply.fate_after_two_yields": Difference("errors-go-on", _GOES_ON),
    "serializers.json_refuses_bytes": Difference("json-types", {"send": ["no error", None]}),
    "serializers.json_refuses_sets": Difference("json-types", {"send": ["no error", None]}),
    "serializers.raw_refuses_numbers": Difference("encode-errors", {"send": _raises("EncodeError")}),
    "serializers.raw_refuses_text": Difference("encode-errors", {"send": _raises("EncodeError")}),
    "syncpub.connecting_again": Difference("channel-twice", {"again": _raises("NotImplementedError")}),
    "syncpub.subscribe_at_run_time": Difference("sync-pub-subscribe", {"second": ["new"]}),
    "timers.each_in_on_init": Difference("early-timers", {"ticks": True}),
    "timers.fate_after_a_failing_action": Difference("errors-go-on", _GOES_ON),
    "timers.without_an_alias": Difference("timer-names", {"identifier": "<id>"}),
}
