"""Generated files are those that the models give, and their examples are valid."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import ganglion
from ganglion.api import load_object
from ganglion.api.crd import KINDS, definition
from ganglion.imperative.settings import config
from ganglion.planner.reasons import CONDITIONS
from ganglion_operator.core import trouble
from hack import generate, program_reference, reference

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", generate.generated())
def test_file_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text() == generate.generated()[name], "run `make generate` and commit the result"


def test_check_names_what_differs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "generated", lambda: {"crds/a.yaml": "one\n"})
    assert generate.main(["--check"]) == 1
    assert "differs: crds/a.yaml" in capsys.readouterr().out
    assert not (tmp_path / "crds").exists()
    assert generate.main([]) == 0
    assert (tmp_path / "crds/a.yaml").read_text() == "one\n"
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_crd_file_reads_back(kind: str) -> None:
    path = ROOT / f"crds/ganglion.dev_{kind.lower()}s.yaml"
    assert yaml.safe_load(path.read_text()) == definition(kind)
    assert path.stat().st_size < 256 * 1024, "kubectl apply keeps a copy in an annotation of at most 256 KiB"


@pytest.mark.parametrize("kind", KINDS)
def test_example_is_valid(kind: str) -> None:
    assert load_object(yaml.safe_load(reference.example(kind))).kind == kind


def _fields(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, child in schema.get("properties", {}).items():
        found += _fields(child, f"{path}.{name}")
    return found + (_fields(schema["items"], f"{path}[]") if isinstance(schema.get("items"), dict) else [])


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_and_bounded(kind: str) -> None:
    schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, field in _fields(schema["properties"]["spec"], "spec"):
        assert path.endswith("[]") or field.get("description"), path
        if field.get("type") == "array":
            assert "maxItems" in field, path
            assert "x-kubernetes-list-type" in field, path
        elif field.get("type") == "string" and "enum" not in field:
            assert "maxLength" in field, path
        elif field.get("type") == "integer":
            assert "minimum" in field, path
            assert "maximum" in field, path


def test_reasons_are_in_the_pages() -> None:
    for kind, conditions in CONDITIONS.items():
        page = (ROOT / f"docs/reference/{kind.lower()}.md").read_text()
        for condition, reasons in conditions.items():
            for reason in reasons:
                assert f"| `{condition}` | `{reason}` |" in page


def test_reasons_that_the_operator_finds_in_pods_are_documented() -> None:
    found = set(re.findall(r'"([A-Z][A-Za-z]+)"', Path(trouble.__file__).read_text()))
    kubelet = {"ErrImagePull", "ErrImageNeverPull", "RegistryUnavailable", "PodScheduled", "False", "True", "Failed", "Succeeded"}
    assert found - kubelet <= set(CONDITIONS["Agent"]["Ready"])


def test_values_schema_knows_every_value_and_no_other() -> None:
    chart = ROOT / "charts/ganglion"
    schema = json.loads((chart / "values.schema.json").read_text())
    values = yaml.safe_load((chart / "values.yaml").read_text())

    def compare(value: dict[str, Any], part: dict[str, Any], path: str) -> None:
        assert part["additionalProperties"] is False, path
        assert set(value) == set(part["properties"]) - {"global"}, path
        for name, child in value.items():
            if part["properties"][name].get("additionalProperties") is False and path.count(".") < 2 and name not in RESOURCES:
                compare(child, part["properties"][name], f"{path}.{name}")

    compare(values, schema, "values")
    commented = {path.split(".", 1)[0] for path, _ in reference._leaves((chart / "values.yaml").read_text().splitlines())}
    assert commented == set(values)


RESOURCES = {"resources", "runtimeResources", "nameserverResources"}


def test_every_public_name_of_programs_is_described() -> None:
    page = program_reference.page()
    for name in ganglion.__all__:
        assert name == "config" or name in program_reference.FUNCTIONS or f"### {name}\n" in page or f"| `{name}` |" in page, name
    for name in program_reference.CLASSES:
        for signature, text in program_reference.members(getattr(ganglion, name)):
            assert text, f"{name}.{signature} has no docstring"


def test_settings_and_variables_of_programs_are_those_of_the_code() -> None:
    assert set(program_reference.CONFIG) == set(config)
    sources = [*(ROOT / "agent_image/ganglion/imperative").glob("*.py"), ROOT / "agent_image/ganglion/cli/connect.py"]
    read = {name for path in sources for name in re.findall(r"GANGLION_[A-Z_]*[A-Z]", path.read_text())}
    assert {name for name in read if not name.startswith("GANGLION_DEFAULT")} <= set(program_reference.ENVIRONMENT)
