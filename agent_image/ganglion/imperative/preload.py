"""What every forked agent and name server would load by itself. Imported by the forking process."""

from __future__ import annotations

# `idna`: of the first look-up of a host's name.
import encodings.idna  # noqa: F401

import ganglion.imperative.agents
import ganglion.imperative.life
import ganglion.imperative.logger
import ganglion.imperative.main
import ganglion.imperative.nameserver
import ganglion.imperative.nsproxy  # noqa: F401
