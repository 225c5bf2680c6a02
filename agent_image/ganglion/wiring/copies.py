"""Names of copies: Agents that are made from a template because a program has asked for an agent."""

from __future__ import annotations

import hashlib
import re

_MAX_PREFIX = 39
"""With a dash and the digest: the longest name that an Agent may have."""
_DIGEST_BYTES = 6


def _prefix(template: str) -> str:
    return template[:_MAX_PREFIX].rstrip("-")


def copy_name(template: str, agent: str) -> str:
    """Name of the Agent that runs `agent`. The same for the same two names, so that asking twice is one copy.

    Args:
        template: name of the Agent that it is a copy of.
        agent: name under which programs know the agent; any text.
    """
    text = f"{template}\0{agent}".encode("utf-8", "surrogatepass")
    return f"{_prefix(template)}-{hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()}"


def is_copy_name(name: str, template: str) -> bool:
    """Whether a copy of `template` may have this name: nobody can ask for one that has the name of something else."""
    return re.fullmatch(f"{re.escape(_prefix(template))}-[0-9a-f]{{{2 * _DIGEST_BYTES}}}", name) is not None
