"""Kubernetes quantities: `2`, `500m`, `64Mi`, `1e6`."""

from __future__ import annotations

import re
from fractions import Fraction

_BINARY = {f"{prefix}i": Fraction(1024) ** power for power, prefix in enumerate("KMGTPE", 1)}
_DECIMAL = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1)}
_DECIMAL |= {prefix: Fraction(1000) ** power for power, prefix in enumerate("kMGTPE", 1)}
_FORM = re.compile(r"(?P<digits>[0-9]+\.?[0-9]*|\.[0-9]+)(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[-+]?[0-9]{1,2}))?")


def quantity(value: str | int) -> Fraction:
    """The amount that a quantity stands for.

    Raises:
        ValueError: not a quantity.
    """
    found = _FORM.fullmatch(str(value))
    if found is None:
        raise ValueError(f"found {value!r}; must be a non-negative quantity such as 2, 500m or 64Mi")
    amount = Fraction(found["digits"].removesuffix("."))
    if found["exponent"]:
        return amount * Fraction(10) ** int(found["exponent"])
    return amount * {**_BINARY, **_DECIMAL}[found["suffix"] or ""]
