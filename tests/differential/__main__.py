"""Plays scenarios by hand: `python -m tests.differential [-k TEXT] [--library NAME] [--repeat N]`.

With one library: are the transcripts equal each time? With both (default): the differences, as the test sees them.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from tests.differential.catalogue import catalogue
from tests.differential.runner import Result, Run
from tests.differential.verdicts import PENDING, compare, pending

BOTH = ("osbrain", "ganglion")


def _play(libraries: tuple[str, ...], names: list[str], workers: int) -> dict[tuple[str, str], Result]:
    run = Run([(library, name) for name in names for library in libraries], workers=workers)
    try:
        results = {(library, name): run.result(library, name, within=900) for name in names for library in libraries}
    finally:
        run.close()
    for library, texts in run.left.items():
        click.echo(f"left behind by {library}: {texts}")
    return results


def _alone(library: str, names: list[str], workers: int, repeat: int, verbose: bool) -> int:
    seen: dict[str, set[str]] = {name: set() for name in names}
    bad = 0
    for _ in range(repeat):
        results = _play((library,), names, workers)
        for name in names:
            result = results[library, name]
            seen[name].add(json.dumps(result.transcript))
            if result.failure or result.problems or verbose:
                bad += bool(result.failure or result.problems)
                click.echo(f"{name} ({result.seconds} s + {result.closing} s): {result.failure or result.problems or ''}")
                click.echo("".join(f"    {key}: {json.dumps(value)}\n" for key, value in result.transcript))
                click.echo(result.output[-2500:])
            elif result.seconds + result.closing > 3:
                click.echo(f"slow: {name} {result.seconds} s + {result.closing} s")
    for name, transcripts in seen.items():
        if len(transcripts) > 1:
            click.echo(f"{name}: {len(transcripts)} different transcripts\n  " + "\n  ".join(transcripts))
    click.echo(f"{len(names)} scenarios, {repeat} times: {bad} failures, {sum(len(t) > 1 for t in seen.values())} not deterministic")
    return 1 if bad else 0


@click.command()
@click.option("-k", "words", multiple=True, help="Only scenarios whose id contains one of these.")
@click.option("--library", type=click.Choice(BOTH), help="Play on this one alone.")
@click.option("--repeat", default=1, help="How often (with --library).")
@click.option("--backend", help="Ganglion's backend for agents.")
@click.option("--workers", default=4, help="Host processes at a time.")
@click.option("--write-pending", "reason", help="Write the scenarios that differ into the list of pending ones, with this reason.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the differences here.")
@click.option("-v", "verbose", is_flag=True, help="Show all transcripts (with --library).")
def main(
    words: tuple[str, ...],
    library: str | None,
    repeat: int,
    backend: str | None,
    workers: int,
    reason: str | None,
    out: Path | None,
    verbose: bool,
) -> None:
    """Play scenarios and compare."""
    names = [name for name in catalogue() if not words or any(word in name for word in words)]
    ours = "ganglion" if backend is None else f"ganglion+{backend}"
    if library:
        library = ours if library == "ganglion" else library
        raise SystemExit(_alone(library, names, workers, repeat, verbose))
    results = _play(("osbrain", ours), names, workers)
    lines, open_ones = [], {}
    for name in names:
        theirs, found = results["osbrain", name], results[ours, name]
        if theirs.failure:
            lines.append(f"{name}: osBrain itself: {theirs.failure}")
        elif differences := compare(name, theirs, found):
            open_ones[name] = reason or ""
            lines.append(f"{name}: {'; '.join(differences)}"[:1500])
            if found.failure:
                lines.append("    " + found.failure.strip()[-1200:].replace("\n", "\n    "))
    lines.append(f"{len(names)} scenarios: {len(names) - len(open_ones)} equal, {len(open_ones)} not")
    click.echo("\n".join(lines))
    if out:
        out.write_text("\n".join(lines) + "\n")
    if reason:
        keep = {name: why for name, why in pending().items() if name not in names}
        head = "".join(line + "\n" for line in PENDING.read_text().splitlines() if line.startswith("#"))
        PENDING.write_text(head + "".join(f"{name} {why}\n" for name, why in sorted((keep | open_ones).items())))


if __name__ == "__main__":
    main()
