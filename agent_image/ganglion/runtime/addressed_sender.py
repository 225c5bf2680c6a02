"""The sender's half of an addressed channel in a sidecar: one `Sender` for each receiver. Pure.

Each batch names its receiver. It waits for a link to that one, is redelivered to its next life only, and is given up when there will be none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import partial

from ganglion.runtime.addressed_outlet import GONE, total
from ganglion.runtime.addressees import Addressees
from ganglion.runtime.batches import Batch, Frame, Transmit, buffer
from ganglion.runtime.plane import MessageId
from ganglion.runtime.sender import Sender
from ganglion.wire import frames
from ganglion.wire.control import Ledger
from ganglion.wire.frames import DataHead


class AddressedSender:
    """Serves in the place of a `Sender`.

    Args:
        address: link key → address of the receiver behind it.
        bound: unsettled messages of one receiver above which further ones are given up: an agent that crashes again and again leaves more
            than one that lives may send.
        on_absent: (address, absent) when a receiver that something waits for has no link, and when it has one again.
        on_settled, on_acked, on_dead: see `Sender`.
    """

    def __init__(
        self,
        address: Callable[[Hashable], str],
        bound: int,
        *,
        on_absent: Callable[[str, bool], object],
        on_settled: Callable[[Batch], object],
        on_acked: Callable[[int, int, int, int], object],
        on_dead: Callable[[MessageId, bytes, str], object],
    ) -> None:
        self._address = address
        self._bound = bound
        self._on_absent = on_absent
        self._on_dead = on_dead
        self._make = partial(Sender, on_settled=on_settled, on_acked=on_acked)
        self._addressees = Addressees()
        self._parts: tuple[dict[str, Sender], Ledger] = ({}, Ledger())
        """By address, and the account of those that are no more. Replaced as one: the control thread counts meanwhile."""
        self._linked: dict[Hashable, str] = {}
        self._ready: set[str] = set()
        """Receivers for whom something may leave now."""
        self._absent: set[str] = set()

    # -- what the agent sent

    def offer(self, frame: Frame, head: DataHead | None = None) -> bool:
        """See `Sender.offer`.

        Raises:
            FrameError: not a DATA frame, or it names no receiver.
        """
        to = _receiver(frame)
        sender = self._of(to)
        if not sender.offer(frame, head):
            return False
        if to not in self._addressees and not self._has_link(to):
            sender.give_up(GONE.format(to))
        elif sender.in_flight > self._bound:
            sender.give_up(f"{self._bound} messages wait for {to!r} already", last=True)
        self._ready.add(to)
        self._look(to)
        return True

    def report_again(self, head: DataHead) -> None:
        """See `Sender.report_again`."""
        for sender in self._all():
            sender.report_again(head)

    def reply(self, _key: Hashable, _stream: int, _seq: int) -> bool:
        """Nobody asks on such a channel."""
        return False

    def cancel(self, _stream: int, _seq: int) -> bool:
        """Nobody asks on such a channel."""
        return False

    # -- who there is

    def set_addressees(self, addressees: Addressees) -> None:
        """Whom there is to send to, from now on; what waits for others is given up."""
        self._addressees = addressees
        for to in list(self._parts[0]):
            self._judge(to)

    def _judge(self, to: str) -> None:
        if to in self._addressees or self._has_link(to):
            return
        parts, past = self._parts
        sender = parts.get(to)
        if sender is None:
            return
        sender.give_up(GONE.format(to))
        if to in self._absent:
            # Who hears it may come to know the next replica of this name before its messages are all settled.
            self._absent.discard(to)
            self._on_absent(to, False)
        self._ready.discard(to)
        self._parts = ({key: one for key, one in parts.items() if key != to}, total(past, sender.ledger()))

    # -- what links say

    def add_link(self, key: Hashable, transmit: Transmit) -> None:
        """See `Sender.add_link`."""
        to = self._linked[key] = self._address(key)
        self._of(to).add_link(key, transmit)

    def grant(self, key: Hashable, messages: int, size: int) -> None:
        """See `Sender.grant`."""
        self._at(key, lambda sender: sender.grant(key, messages, size))

    def drain(self, key: Hashable) -> None:
        """See `Sender.drain`."""
        self._at(key, lambda sender: sender.drain(key))

    def ack(self, key: Hashable, ranges: Iterable[frames.Range]) -> None:
        """See `Sender.ack`."""
        self._at(key, lambda sender: sender.ack(key, ranges))

    def revoke(self, key: Hashable, *, charge: bool) -> None:
        """See `Sender.revoke`."""
        self._at(key, lambda sender: sender.revoke(key, charge=charge))

    def lost(self, key: Hashable, *, charge: bool) -> None:
        """See `Sender.lost`."""
        self._at(key, lambda sender: sender.lost(key, charge=charge))
        to = self._linked.pop(key, None)
        if to is not None:
            self._judge(to)

    # -- what goes out

    def pump(self) -> None:
        """See `Sender.pump`."""
        ready, self._ready = self._ready, set()
        for to in ready:
            sender = self._parts[0].get(to)
            if sender is not None:
                sender.pump()

    @property
    def pending(self) -> int:
        """Receivers for whom something may leave now."""
        return len(self._ready)

    def tell_absent(self) -> None:
        """Say it anew: whoever heard it has gone."""
        self._absent.clear()
        for to in self._parts[0]:
            self._look(to)

    # -- what is known

    @property
    def at_rest(self) -> bool:
        """See `Sender.at_rest`."""
        return all(sender.at_rest for sender in self._all())

    @property
    def in_flight(self) -> int:
        """Messages that are not settled."""
        return sum(sender.in_flight for sender in self._all())

    def in_flight_of(self, stream: int) -> int:
        """See `Sender.in_flight_of`."""
        return sum(sender.in_flight_of(stream) for sender in self._all())

    @property
    def links(self) -> int:
        """See `Sender.links`."""
        return sum(sender.links for sender in self._all())

    def ledger(self) -> Ledger:
        """See `Sender.ledger`."""
        parts, past = self._parts
        return total(past, *(sender.ledger() for sender in list(parts.values())))

    # -- inside

    def _all(self) -> list[Sender]:
        return list(self._parts[0].values())

    def _of(self, to: str) -> Sender:
        parts, past = self._parts
        sender = parts.get(to)
        if sender is None:
            sender = self._make(on_dead=partial(self._dead, to))
            self._parts = ({**parts, to: sender}, past)
        return sender

    def _at(self, key: Hashable, what: Callable[[Sender], object]) -> None:
        to = self._linked.get(key)
        if to is not None:
            what(self._of(to))
            self._ready.add(to)
            self._look(to)

    def _has_link(self, to: str) -> bool:
        return to in self._linked.values()

    def _look(self, to: str) -> None:
        """Tell when a receiver goes, or comes, while something waits for it."""
        sender = self._parts[0].get(to)
        absent = sender is not None and sender.in_flight > 0 and not sender.links
        if absent != (to in self._absent):
            (self._absent.add if absent else self._absent.discard)(to)
            self._on_absent(to, absent)

    def _dead(self, to: str, id_: MessageId, body: bytes, why: str) -> None:
        self._on_dead(id_, body, why if to in why else f"for {to!r}: {why}")


def _receiver(frame: Frame) -> str:
    to = frames.decode_data(buffer(frame)).ext.get("to")
    if not isinstance(to, str) or not 0 < len(to) <= 253:
        raise frames.FrameError(f"field to: found {str(to)[:80]!r}, expected the name of a replica")
    return to
