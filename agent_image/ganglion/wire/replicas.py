"""What the replicas of an agent are called. Pure."""

from __future__ import annotations


def slot_of(agent: str, replica: str) -> str:
    """Which of an agent's replicas a pod is: `a-3` and the Job pods `a-3-x7k2p`, `a-3-9zqlm` are all slot 3.

    A Job makes another pod for an index that failed; both stand for the same piece of work.
    """
    rest = replica.removeprefix(f"{agent}-") if replica.startswith(f"{agent}-") else ""
    index = rest.split("-", 1)[0]
    return index if index.isdecimal() else replica


def address_of(agent: str, replica: str) -> str:
    """By what name a replica is sent to: `a-3`, whichever pod that is at present."""
    slot = slot_of(agent, replica)
    return f"{agent}-{slot}" if slot.isdecimal() else replica
