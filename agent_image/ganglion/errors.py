"""The root of all errors that this package raises to user code."""

from __future__ import annotations


class GanglionError(Exception):
    """Base of all errors of this package."""
