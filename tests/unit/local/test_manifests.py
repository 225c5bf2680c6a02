"""Sources of manifests: files, folders, kustomizations; what is wrong is told with its place, all in one go."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ganglion.local.bundle import Bundle
from ganglion.local.check import choose_domain, judge
from ganglion.local.manifests import ManifestsError, load

SERVER = "apiVersion: ganglion.dev/v1alpha1\nkind: NameServer\nmetadata: {name: shop}\n"
CHANNEL = (
    "apiVersion: ganglion.dev/v1alpha1\nkind: Channel\nmetadata: {name: orders}\nspec: {nameServerRef: {name: shop}, pattern: PushPull}\n"
)
AGENT = """apiVersion: ganglion.dev/v1alpha1
kind: Agent
metadata: {name: clerk}
spec:
  nameServerRef: {name: shop}
  class: clerk:Clerk
  channels:
  - alias: out
    channelRef: {name: orders}
    role: Push
"""
WHOLE = f"{SERVER}---\n{CHANNEL}---\n{AGENT}"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def faults(*sources: Path | str) -> list[str]:
    with pytest.raises(ManifestsError) as caught:
        load([str(source) for source in sources])
    lines = [str(fault) for fault in caught.value.faults]
    assert all("\n" not in line for line in lines)
    return lines


def test_one_file_with_several_documents(tmp_path: Path) -> None:
    bundle = load([str(write(tmp_path, {"all.yaml": WHOLE}) / "all.yaml")])
    assert (set(bundle.name_servers), set(bundle.channels), set(bundle.agents)) == ({"shop"}, {"orders"}, {"clerk"})
    assert bundle.places["Agent/clerk"].endswith("all.yaml:10")
    assert judge(bundle).faults == []


def test_a_folder_is_its_manifests_and_nothing_else(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a.yaml": SERVER,
            "b.yml": CHANNEL,
            "c.json": json.dumps({"apiVersion": "v1", "kind": "List", "items": []}),
            "readme.md": "# hi: [",
        },
    )
    assert set(load([str(tmp_path)]).places) == {"NameServer/shop", "Channel/orders"}


def test_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(WHOLE.encode())))
    assert set(load(["-"]).agents) == {"clerk"}


def test_a_bundle_survives_the_way_to_a_supervisor(tmp_path: Path) -> None:
    write(tmp_path, {"all.yaml": WHOLE.replace("clerk:Clerk", "clerk:Clerk\n  code: {configMapRef: {name: code}}"), "code.py": "x = 1\n"})
    write(
        tmp_path,
        {
            "kustomization.yaml": 'resources: [all.yaml]\nconfigMapGenerator:\n- {name: code, files: [code.py], options: {labels: {ganglion.dev/code: "true"}}}\n'
        },
    )
    bundle = load([str(tmp_path)])
    (note,) = bundle.notes
    assert note.startswith(f"{tmp_path}/kustomization.yaml:3: in a cluster kustomize adds a hash to the name code")
    again = Bundle.from_json(json.loads(json.dumps(bundle.to_json())))
    assert (again.agents, again.channels, again.name_servers) == (bundle.agents, bundle.channels, bundle.name_servers)
    assert again.config_maps == bundle.config_maps


def test_all_mistakes_in_one_go_with_their_lines(tmp_path: Path) -> None:
    wrong_agent = AGENT.replace("role: Push", "role: Shout").replace("clerk:Clerk", "clerk")
    write(tmp_path, {"a.yaml": wrong_agent, "b.yaml": CHANNEL.replace("PushPull", "Carrier"), "c.yaml": "a:\n\tb: 1"})
    lines = faults(tmp_path)
    assert any('a.yaml:10: Agent/clerk: spec.channels[0].role: found "Shout"' in line for line in lines)
    assert any('a.yaml:6: Agent/clerk: spec.class: found "clerk"' in line for line in lines)
    assert any('b.yaml:4: Channel/orders: spec.pattern: found "Carrier"' in line for line in lines)
    assert any("c.yaml:2: not valid YAML: found a tab" in line for line in lines)
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just text", "must be a mapping"),
        ("- a\n- b", "must be a mapping"),
        ("", "no objects"),
        ("# nothing\n---\n", "no objects"),
        ("kind: Agent\nmetadata: {name: a}\nspec: {}", "apiVersion: found null"),
        (AGENT.replace("kind: Agent", "kind: Agnet"), 'found "Agnet"'),
        (f"{SERVER}---\n{SERVER}", "NameServer/shop: is defined twice (first at "),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: 1}",
            "ConfigMap/c: data.a: found 1; must be text: put it in quotes",
        ),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {../x: a}", "key '../x'"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\nbinaryData: {a: '%'}", "must be base64"),
        ("apiVersion: v1\nkind: ConfigMap", "ConfigMap: metadata.name: required field is missing"),
    ],
)
def test_bad_documents(tmp_path: Path, text: str, message: str) -> None:
    [line] = faults(write(tmp_path, {"bad.yaml": text}) / "bad.yaml")
    assert message in line
    assert "bad.yaml" in line


def test_missing_sources(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    lines = faults(tmp_path / "nowhere.yaml", tmp_path / "empty")
    assert "No such file or directory" in lines[0]
    assert "no manifests" in lines[1]


def test_objects_of_others_are_left_out_and_told(tmp_path: Path) -> None:
    other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"
    bundle = load([str(write(tmp_path, {"all.yaml": f"{WHOLE}---\n{other}"}))])
    assert len(bundle.notes) == 1
    assert "Deployment/web is left out" in bundle.notes[0]


# ---------------------------------------------------------------------- kustomizations


def test_the_code_of_a_generator_is_used_in_place(tmp_path: Path) -> None:
    write(tmp_path, {"all.yaml": WHOLE, "clerk.py": "class Clerk: ...\n", "names.yaml": "nameReference: []\n"})
    write(
        tmp_path,
        {
            "kustomization.yaml": "resources: [all.yaml]\nconfigurations: [names.yaml]\ngeneratorOptions: {disableNameSuffixHash: true}\nconfigMapGenerator:\n- {name: code, files: [clerk.py]}\n"
        },
    )
    bundle = load([str(tmp_path)])
    assert bundle.config_maps["code"].folder == str(tmp_path.resolve())
    assert not bundle.config_maps["code"].is_code
    assert not bundle.notes
    assert "Agent/clerk" in bundle.places


def test_renamed_files_and_literals_are_written_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "src/clerk.py": "x = 1\n",
            "kustomization.yaml": "configMapGenerator:\n- {name: code, files: [main.py=src/clerk.py], literals: [answer=42]}\n",
        },
    )
    found = load([str(tmp_path)]).config_maps["code"]
    assert found.folder is None
    assert dict(found.files) == {"main.py": b"x = 1\n", "answer": b"42"}
    found.write(tmp_path / "out")
    assert (tmp_path / "out" / "answer").read_bytes() == b"42"


def test_a_resource_may_be_a_kustomization(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"base/kustomization.yaml": "resources: [all.yaml]\n", "base/all.yaml": WHOLE, "top/kustomization.yaml": "resources: [../base]\n"},
    )
    assert set(load([str(tmp_path / "top")]).agents) == {"clerk"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("resources: []\nnamePrefix: x-\n", 2, "namePrefix: not supported without a cluster"),
        ("resources: []\npatches:\n- path: p.yaml\n", 2, "patches: not supported without a cluster"),
        ("generatorOptions:\n  labels: {a: b}\n", 2, "generatorOptions.labels: not supported"),
        ("resources:\n- all.yaml\n- missing.yaml\n", 3, "resources[1]: found 'missing.yaml'; name a file or folder that exists"),
        ("resources:\n- https://example.com/x.yaml\n", 2, "remote resources are not read"),
        ("resources:\n- 7\n", 2, "resources[0]: found 7; must be text"),
        ("resources: all.yaml\n", 1, "resources: must be a list of texts"),
        ("resources:\n- plain\n", 2, "must hold a kustomization.yaml"),
        ("configMapGenerator:\n- name: c\n  behavior: merge\n", 3, "configMapGenerator[0].behavior: not supported"),
        ("configMapGenerator:\n- files: [a]\n", 2, "configMapGenerator[0].name: required field is missing"),
        ("configMapGenerator:\n- name: c\n  files:\n  - ../outside.py\n", 4, "must lie below"),
        ("configMapGenerator:\n- name: c\n  files:\n  - nothing.py\n", 4, "name a file that exists"),
        ("configMapGenerator:\n- name: c\n  literals:\n  - novalue\n", 4, "must be key=value"),
        ("configMapGenerator:\n- name: c\n  options: {immutable: true}\n", 3, "options.immutable: not supported"),
        ("configurations:\n- gone.yaml\n", 2, "configurations[0]: found 'gone.yaml'"),
        ("- a\n", 0, "must hold one mapping"),
        ("resources: []\nresources: []\n", 2, "key 'resources' is given twice"),
    ],
)
def test_what_a_kustomization_may_not_hold(tmp_path: Path, text: str, line: int, message: str) -> None:
    write(tmp_path, {"k/kustomization.yaml": text, "k/all.yaml": WHOLE, "k/plain/x.txt": "", "outside.py": "x"})
    lines = faults(tmp_path / "k")
    assert len([item for item in lines if "no objects" not in item]) == 1
    assert message in lines[0]
    assert (f"kustomization.yaml:{line}: " if line else "kustomization.yaml: ") in lines[0]


# ---------------------------------------------------------------------- references


def judged(tmp_path: Path, text: str, wanted: str | None = None) -> list[str]:
    bundle, problems = choose_domain(load([str(write(tmp_path, {"all.yaml": text}))]), wanted)
    return [str(fault) for fault in problems + judge(bundle).faults]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{CHANNEL}---\n{AGENT}", "the manifests hold no NameServer (the objects refer to shop); add one"),
        (f"{SERVER}---\n{SERVER.replace('shop', 'other')}", "2 NameServers (other, shop); run each with --nameserver NAME"),
        (f"{SERVER}---\n{AGENT}", "Agent/clerk: spec.channels[0].channelRef.name: Channel 'orders' does not exist; create it"),
        (
            WHOLE.replace("role: Push", "role: Pub"),
            "Agent/clerk: spec.channels[0].role: found Pub, but Channel 'orders' has pattern PushPull",
        ),
        (
            WHOLE.replace("class: clerk:Clerk", "class: clerk:Clerk\n  code: {configMapRef: {name: nope}}"),
            "ConfigMap 'nope' does not exist or lacks the label",
        ),
        (WHOLE.replace("pattern: PushPull", "pattern: PushPull, codec: Dill"), "Channel/orders: spec.codec: Dill can run code"),
        (WHOLE.replace("class: clerk:Clerk", "container: {image: x}"), "spec.container.command: required field is missing"),
        (
            WHOLE.replace("class: clerk:Clerk", "class: clerk:Clerk\n  env:\n  - {name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}"),
            "Agent/clerk: spec.env[0].valueFrom.secretKeyRef: Secret 's' with key 'k' is not in the manifests",
        ),
        (WHOLE.replace("{name: clerk}", "{name: clerk, namespace: elsewhere}"), "everything must be in one namespace"),
    ],
)
def test_references(tmp_path: Path, text: str, message: str) -> None:
    lines = judged(tmp_path, text)
    assert any(message in line for line in lines), lines


def test_one_of_several_domains(tmp_path: Path) -> None:
    text = f"{WHOLE}---\n{SERVER.replace('shop', 'other')}"
    assert judged(tmp_path, text, "shop") == []
    assert "found 'nope'; the manifests hold other, shop" in judged(tmp_path, text, "nope")[0]
