"""The repository's shape: what must not exist, who may import whom, and what no file may contain."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from hack.constraints import normal

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> list[Path]:
    """Files that git knows."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_operator_folder_is_no_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists(), "it would shadow the standard library's operator module"


def test_layers() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(tool), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_every_package_is_under_a_contract() -> None:
    listed = {name for contract in PROJECT["tool"]["importlinter"]["contracts"] for name in contract["source_modules"]}
    for package in (ROOT / "agent_image" / "ganglion").iterdir():
        if (package / "__init__.py").exists() and package.name != "cli":
            assert f"ganglion.{package.name}" in listed


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_constraints_are_plain_pins() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line


def _needs(requirement: Requirement, done: set[tuple[str, str]]) -> Iterator[str]:
    """Names of everything that a requirement installs here, itself included."""
    yield normal(requirement.name)
    for extra in ("", *sorted(requirement.extras)):
        key = (normal(requirement.name), extra)
        if key in done:
            continue
        done.add(key)
        for text in metadata.requires(requirement.name) or ():
            inner = Requirement(text)
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                yield from _needs(inner, done)


def test_constraints_cover_all_dependencies() -> None:
    needed = set(_needs(Requirement("ganglion[dev,operator,dill]"), set())) - {"ganglion"}
    assert needed - {normal(name) for name in pins()} == set(), "run `make constraints`"


def test_constraints_fit_the_ranges() -> None:
    versions = {normal(name): version for name, version in pins().items()}
    extras = PROJECT["project"]["optional-dependencies"]
    for text in [*PROJECT["project"]["dependencies"], *(line for lines in extras.values() for line in lines)]:
        requirement = Requirement(text)
        if requirement.name != "ganglion":
            assert versions[normal(requirement.name)] in requirement.specifier, text


# In two pieces, so that this file does not contain them.
_FOREIGN = ("/wo" + "rk/main", "/wo" + "rk/shared", "/tmp/te" + "am", "/opt/whe" + "els", "/ro" + "ot/.")


def test_no_file_holds_a_path_of_one_machine() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {needle}" for needle in _FOREIGN if needle in text]
    assert not found
