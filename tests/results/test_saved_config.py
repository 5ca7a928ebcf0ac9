"""A saved config may be untrusted: it may reference itself, and nothing else."""

from pathlib import Path

import pytest

from triptych.results.saved_config import read_config

BASE = """
monitor: val/rmse
data: {_target_: a.Data, root: null}
model: {_target_: a.Model, monitor: "${monitor}"}
"""


def save(folder: Path, text: str, name: str = "config.yaml") -> Path:
    path = folder / ".hydra" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder


def test_references_are_resolved_into_plain_containers(tmp_path: Path):
    config = read_config(save(tmp_path, BASE + "sizes: [1, {a: '${data._target_}'}]"))
    assert config["model"] == {"_target_": "a.Model", "monitor": "val/rmse"}
    assert config["sizes"] == [1, {"a": "a.Data"}]
    assert type(config["model"]) is dict
    assert type(config["sizes"]) is list


SECRET = "${oc.env:HOME}"


@pytest.mark.parametrize(
    "text",
    [
        "x: ${oc.env:HOME}",
        "x: ${oc.env:HOME,nothing}",
        "x: a ${oc.env:HOME} b",
        "x: ${ oc.env:HOME}",
        "x: '${oc.env: HOME}'",
        "x: ${oc.decode:'1'}",
        "x: ${oc.create:{a:1}}",
        "x: ${hydra:runtime.cwd}",
        "x: ${now:%Y}",
        "x: ${run_id:}",
        "x: '${${a}:x}'",
        "x: '${${a}}'",
        "x: '${monitor}${oc.env:HOME}'",
        "x: '${data[root]}'",
        "x: '${.y}'",
        "x: '\\${oc.env:HOME}'",
        'x: "$\\u007boc.env:HOME}"',
        "x: [1, [2, '${oc.env:HOME}']]",
        "x: {a: {b: ['${oc.env:HOME}']}}",
        "'${oc.env:HOME}': 1",
        "x: {'${oc.env:HOME}': 1}",
        "x: !!pairs [a: '${oc.env:HOME}']",
        "x: !!omap [a: '${oc.env:HOME}']",
        "x: !!set {'${oc.env:HOME}'}",
        "a: &a ['${oc.env:HOME}']\nx: *a",
        "a: &a {b: '${oc.env:HOME}'}\nx: {<<: *a}",
        "x: >-\n  ${oc.env:HOME}",
    ],
)
def test_resolvers_are_refused_in_every_form(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "a secret")
    with pytest.raises(ValueError, match="cannot be used") as refusal:
        read_config(save(tmp_path, BASE + text))
    assert "a secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "x: !!python/object/apply:os.system ['false']",
        "x: !!python/name:os.system",
        "x: !!python/object/new:subprocess.Popen [['false']]",
        "x: !!python/tuple [1]",
        "x: ${x}",
        "x: ${y}\ny: ${x}",
        "x: ${nowhere}",
        "x: 2001-01-01",
        "x: {",
        "x: [1, 2",
        "x: 'open",
        "x: a: b",
        "x: \0",
        "x: &x [*x]",
        "x: *nowhere",
        f"x: {'[' * 3000}",
    ],
)
def test_malformed_or_non_plain_yaml_is_one_clear_error(text: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"config\.yaml cannot be used"):
        read_config(save(tmp_path, BASE + text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "data: {_target_: a.Data}",
        "data: 1\nmodel: 2",
        "data: {}\nmodel: {}",
        "data: [_target_]\nmodel: x",
    ],
)
def test_yaml_that_is_not_a_run_config_is_refused(text: str, tmp_path: Path):
    with pytest.raises(ValueError, match="not the config of a run"):
        read_config(save(tmp_path, text))


def test_undecodable_bytes_are_one_clear_error(tmp_path: Path):
    save(tmp_path, "")
    (tmp_path / ".hydra" / "config.yaml").write_bytes(b"\xff\xfe\x00x")
    with pytest.raises(ValueError, match="cannot be used"):
        read_config(tmp_path)


def test_a_missing_config_is_one_clear_error(tmp_path: Path):
    with pytest.raises(ValueError, match=r"config\.yaml cannot be used"):
        read_config(tmp_path)


def test_the_config_of_the_last_resume_is_used(tmp_path: Path):
    save(tmp_path, BASE + "seed: 0")
    for number in (1, 2, 10):
        save(tmp_path, BASE + f"seed: {number}", f"resume-{number}/config.yaml")
    save(tmp_path, BASE + "seed: 99", "resume-notes/config.yaml")
    assert read_config(tmp_path)["seed"] == 10


PLACE = "logger: {mlflow: {tracking_uri: 'http://lab:5000'}}\n"


def test_a_saved_config_cannot_choose_outputs_or_remote_addresses(tmp_path: Path):
    save(tmp_path, BASE.replace("root: null", "root: /data, cache_dir: /made, source: kaggle") + PLACE)
    with pytest.raises(ValueError, match=r"logger\.mlflow\.tracking_uri='http://lab:5000' points outside"):
        read_config(tmp_path)
    # Paths that are only read may lead anywhere, and a run that is only loaded has no logger.
    expected = {"_target_": "a.Data", "root": "/data", "cache_dir": None, "source": "files"}
    assert read_config(tmp_path, trains=False)["data"] == expected
    # Values that the user gives again on the command line are trusted.
    assert read_config(tmp_path, anew=["logger.mlflow.tracking_uri"])["data"] == expected
