"""What every forked agent and sidecar would load or compute by itself: done once, before the forks. Imported by the forking process."""

from __future__ import annotations

import codecs
import contextlib
import importlib
import logging
from collections.abc import Awaitable, Mapping

MODULES = ("ganglion.sdk.main", "ganglion.sdk.process", "ganglion.runtime.sidecar", "ganglion.runtime.uplink")

for _module in MODULES:
    # Loading early is for speed only: what cannot be imported fails again in the process that needs it, and is told in its log.
    with contextlib.suppress(ImportError):
        importlib.import_module(_module)

# The first answer goes through all subclasses, each a page to copy; it is kept.
for _kind in (dict, str, type(None)):
    issubclass(_kind, Mapping)
issubclass(type(None), Awaitable)

# What agents set unless they are told otherwise: a change goes through all loggers.
logging.getLogger().setLevel(logging.INFO)
logging.getLogger("asyncio").setLevel(logging.INFO)

# A module of its own, loaded at the first file of ASCII text.
codecs.lookup("ascii")

with contextlib.suppress(ImportError):
    from ganglion.runtime.uplink import software_version

    # Reads the installed distribution's metadata: 10 ms that are kept in a cache.
    software_version()

with contextlib.suppress(ImportError):
    from ganglion.runtime.sockets import CurveKeys

    # Initialises libsodium, which asks the kernel for each random number and keeps no state of its own: nothing that children share.
    CurveKeys.generate()
