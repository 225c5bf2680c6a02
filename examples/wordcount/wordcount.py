"""Count the words of a folder of Python source: one ventilator, any number of workers, one sink.

    ventilator --tasks--> worker (n replicas) --results--> sink

Both channels are acknowledged and acknowledgement is causal: a worker's input counts as done only when the sink has its result. A worker
that dies therefore loses nothing; its files are counted again elsewhere, and the sink drops what it has already seen by file.

The same file is also the plain program that the result is compared with:

    python wordcount.py --passes 1
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import sys
import sysconfig
import time
import tokenize
from pathlib import Path
from typing import Any

from ganglion import Agent


def library() -> Path:
    """The running interpreter's own standard library: some thousand real files on every machine."""
    return Path(sysconfig.get_path("stdlib"))


def files(folder: Path) -> list[Path]:
    """Every Python file below `folder`, installed packages left out, in a fixed order."""
    return sorted(path for path in folder.rglob("*.py") if "site-packages" not in path.parts and "dist-packages" not in path.parts)


def count(text: bytes) -> dict[str, int] | None:
    """Names in one file and how often they occur; None when `tokenize` refuses the file."""
    words: collections.Counter[str] = collections.Counter()
    try:
        for token in tokenize.tokenize(io.BytesIO(text).readline):
            if token.type == tokenize.NAME:
                words[token.string] += 1
    except (tokenize.TokenError, SyntaxError, UnicodeError, ValueError):
        return None
    return words


class Totals:
    """Merged counts; the same file of the same pass counts once."""

    def __init__(self) -> None:
        self.words: collections.Counter[str] = collections.Counter()
        self.refused: set[str] = set()
        self.seen: set[tuple[int, str]] = set()
        self.duplicates = 0

    def add(self, turn: int, file: str, words: dict[str, int] | None) -> None:
        if (turn, file) in self.seen:
            self.duplicates += 1
            return
        self.seen.add((turn, file))
        if words is None:
            self.refused.add(file)
        else:
            self.words.update(words)

    def report(self) -> dict[str, Any]:
        """What two counts of the same input must agree on, to the last word."""
        return {"files": len(self.seen), "refused": sorted(self.refused), "words": dict(sorted(self.words.items()))}


def plain(folder: Path, passes: int) -> dict[str, Any]:
    """The same count in one loop of one process, which reads each file once: each pass finds in it what the first one found."""
    totals = Totals()
    for path in files(folder):
        words = count(path.read_bytes())
        for turn in range(passes):
            totals.add(turn, str(path.relative_to(folder)), words)
    return totals.report()


def ventilate(agent: Agent) -> None:
    """Send every file `passes` times; returning ends the stream.

    Attributes:
        folder: folder to walk; empty: the standard library.
        passes: how often to send each file.
    """
    folder = Path(agent.get_attr("folder") or library())
    passes = int(agent.get_attr("passes"))
    paths = files(folder)
    agent.log_info(f"Sending {len(paths)} files of {folder}, {passes} times")
    for turn in range(passes):
        for path in paths:
            agent.send("tasks", {"pass": turn, "file": str(path.relative_to(folder)), "text": path.read_bytes()})


class Worker(Agent):
    """Counts one file at a time."""

    def count(self, task: dict[str, Any]) -> None:
        self.send("results", {"pass": task["pass"], "file": task["file"], "words": count(task["text"])})


class Sink(Agent):
    """Merges the counts, and reports when the stream has ended.

    Attributes:
        folder, passes: as for the ventilator, for the comparison.
        verify: compare with the plain count of the same folder before reporting.
        report: file to write the report to (JSON); empty: none.
        top: how many of the most frequent words to print.
    """

    def on_init(self) -> None:
        self.totals = Totals()
        self.started = time.monotonic()

    def merge(self, result: dict[str, Any]) -> None:
        totals = self.totals
        totals.add(result["pass"], result["file"], result["words"])
        if len(totals.seen) % 500 == 0:
            self.log_info(f"{len(totals.seen)} files counted")

    def on_end(self, alias: str) -> None:
        seconds = time.monotonic() - self.started
        report = self.totals.report()
        total = sum(report["words"].values())
        self.log_info(
            f"{report['files']} files, {total} words ({len(report['words'])} different), {len(report['refused'])} not valid Python, "
            f"{self.totals.duplicates} duplicates dropped, {seconds:.1f} s"
        )
        for word, times in self.totals.words.most_common(int(self.get_attr("top"))):
            print(f"{times:9d}  {word}", flush=True)
        if self.get_attr("report"):
            Path(self.get_attr("report")).write_text(json.dumps(report), encoding="utf-8")
        if self.get_attr("verify"):
            self.log_info("Counting the same files once more, in this one process, to compare")
            self.compare(report)
        self.shutdown()

    def compare(self, report: dict[str, Any]) -> None:
        expected = plain(Path(self.get_attr("folder") or library()), int(self.get_attr("passes")))
        if report != expected:
            wrong = [word for word in {*report["words"], *expected["words"]} if report["words"].get(word) != expected["words"].get(word)]
            raise SystemExit(
                f"NOT equal to the plain count: {report['files']} files instead of {expected['files']}, {len(wrong)} words differ: {sorted(wrong)[:5]}"
            )
        print(f"PROOF: equal to the plain single-process count: {report['files']} files, {sum(report['words'].values())} words", flush=True)


def main() -> int:
    """Print the plain count as JSON."""
    parser = argparse.ArgumentParser(description="Count words in one process, for comparison with the agents' result.")
    parser.add_argument("folder", nargs="?", type=Path, default=library(), help="folder of Python files (default: the standard library)")
    parser.add_argument("--passes", type=int, default=1, help="count each file so many times")
    arguments = parser.parse_args()
    json.dump(plain(arguments.folder, arguments.passes), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
