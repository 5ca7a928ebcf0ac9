"""Safe reading of untrusted run directories, and which strings lead outside."""

import os
from pathlib import Path

import pytest

from triptych.results.untrusted import leads_outside, parse_yaml, read_text, refuse_links, strings


@pytest.mark.parametrize(
    "text",
    [
        *("val/rmse", "best", "{epoch}-{step}", "{epoch:02d}-{val/rmse:.0f}", "ddp", "00:00:30:00", "", "a..b", "v1.2"),
        *("lightning.pytorch.callbacks.Timer", "sqlite:///logs/mlflow.db", "Größe 1"),
    ],
)
def test_plain_names_are_accepted(text: str):
    assert not leads_outside(text)


@pytest.mark.parametrize(
    "text",
    [
        *("/etc/passwd", "..", "../x", "a/../../x", "a/..", "~/x", "~root", "C:/x", "C:x", "..\\x", "\\\\host\\share"),
        *(
            "http://host",
            "s3://bucket/x",
            "file:/x",
            "sqlite:////home/x.db",
            "sqlite:///../x.db",
            "sqlite:///a/../../x",
        ),
        *("{epoch:/>9}", "{epoch:.>2}/x", "{/etc/x}", "{epoch.__class__}", "{epoch!r:/>9}", "{epoch:099999999d}", "{"),
        *("a\nb", "a\0b"),
    ],
)
def test_paths_and_addresses_that_lead_outside_are_detected(text: str):
    assert leads_outside(text)


def test_texts_are_listed_with_the_key_of_their_place():
    found = {text: place for place, text in strings({"a": {"b": ["x", {"c": "y"}]}, "z": 3})}
    assert found == {"a": "a", "b": "a.b", "x": "a.b", "c": "a.b.c", "y": "a.b.c", "z": "z"}


def test_yaml_aliases_that_multiply_content_are_refused():
    assert parse_yaml("a: [1, 2]\nb: '*text'\nc: 2 * 3") == {"a": [1, 2], "b": "*text", "c": "2 * 3"}
    with pytest.raises(ValueError, match="aliases"):
        parse_yaml("a: &a [x, x]\nb: [*a, *a]")
    many = "- []\n" * 3000
    assert parse_yaml(many) == [[]] * 3000
    with pytest.raises(ValueError, match="aliases"):
        parse_yaml(f"{many}- &a []\n- *a")


@pytest.mark.timeout(60)
def test_overly_deep_yaml_is_refused_quickly():
    """Parsing it to the end would take hours, because each step of PyYAML goes through all open brackets."""
    with pytest.raises(RecursionError):
        parse_yaml("a: '*'\nb: " + "[" * 500_000)


def test_files_and_links_within_the_directory_are_read(tmp_path: Path):
    (tmp_path / "a").write_bytes("Größe\r\n1\r".encode())
    (tmp_path / "b").symlink_to("a")
    assert read_text(tmp_path / "a") == read_text(tmp_path / "b") == "Größe\n1\n"
    with pytest.raises(ValueError, match="more than the 5"):
        read_text(tmp_path / "a", most=5)


def test_devices_pipes_folders_and_links_outside_are_refused(tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret").touch()
    (folder / "secret").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    for path, message in (
        (folder / "secret", "points outside"),
        (folder / "pipe", "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
    ):
        with pytest.raises(ValueError, match=message):
            read_text(path)
    with pytest.raises(OSError, match="directory"):
        read_text(folder)


def test_links_within_a_directory_are_allowed(tmp_path: Path):
    run = tmp_path / "run"
    (run / "wandb/run-1/logs").mkdir(parents=True)
    (run / "log").touch()
    (run / "link").symlink_to("log")
    (run / "ring").symlink_to("ring")
    (run / "wandb/run-1/logs/core.log").symlink_to(tmp_path)
    (tmp_path / "latest").symlink_to("run")
    refuse_links(tmp_path / "latest")
    (tmp_path / "sweep").mkdir()
    run.rename(tmp_path / "sweep/0")
    refuse_links(tmp_path / "sweep")
    (tmp_path / "sweep/0").rename(run)
    (run / "checkpoints/wandb").mkdir(parents=True)
    (run / "checkpoints/wandb/link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="checkpoints/wandb/link is a link out"):
        refuse_links(tmp_path / "latest")
    (run / "checkpoints/wandb/link").unlink()
    (run / "out").symlink_to("..")
    with pytest.raises(ValueError, match="out is a link out"):
        refuse_links(tmp_path / "latest")
