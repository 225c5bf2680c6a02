"""Builds groups of programs: `python -m hack.kind tools apiserver helm`, or `python hack/kind/tools.py all`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hack.kind import golang
from hack.kind.steps import KindError, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the groups that are asked for and print their directories, one per line."""
    parser = argparse.ArgumentParser(prog="tools", description=__doc__)
    parser.add_argument("groups", nargs="+", choices=[*golang.GROUPS, "all"], help="what to build")
    wanted = parser.parse_args(arguments).groups
    try:
        for group in golang.GROUPS if "all" in wanted else dict.fromkeys(wanted):
            print(golang.programs(group), flush=True)
    except KindError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
