"""The `ganglion` command.

Exit codes: 0 done · 1 failure · 64 bad command line · 69 no such domain is running · 75 the domain is busy · 78 manifests or
configuration refused · 130 interrupted · 143 terminated.
"""

from ganglion.cli.app import main

__all__ = ["main"]
