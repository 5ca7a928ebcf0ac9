"""What README and docs/ refer to exists: linked files, paths, and commands that the config accepts."""

import re
import shlex
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from triptych.config import check

REPOSITORY = Path(__file__).parents[2]
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text("utf-8")
    for path in (*sorted(REPOSITORY.glob("README.md")), *sorted((REPOSITORY / "docs").rglob("*.md")))
}
FOLDERS = sorted(path.name for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith("."))
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"")
SPAN = re.compile(r"`([^`\n]+)`")
# A file that a page tells the reader to create is named in bold above its content.
NEW_FILE = re.compile(r"^\*\*`(\S+)`\*\*$", re.MULTILINE)
COMMAND = re.compile(r"python train\.py([^`\n#]*)")
PLACEHOLDER = re.compile(r"<[^>]*>|\.\.\.|\b[A-Z]{2,}\b|\$")
WRITTEN_BY_RUNS = ("logs/", "data/")


def links(text: str) -> list[str]:
    """The targets of relative links."""
    targets = [markdown or html for markdown, html in LINK.findall(text)]
    return [target for target in targets if not re.match(r"[a-z]+:|#", target)]


def paths(text: str) -> list[str]:
    """The code spans that look like a file or folder of the repository, without placeholders."""
    spans = [
        span for span in SPAN.findall(text) if "/" in span and not re.search(r"[\s<>*{}$=,:]|\.\.\.|[A-Z]{3,}", span)
    ]
    new = NEW_FILE.findall(text)
    ours = [span for span in spans if span.split("/")[0] in FOLDERS and not span.startswith(WRITTEN_BY_RUNS)]
    return [span for span in ours if span not in new]


def tree(text: str) -> list[str]:
    """The paths of the Python files in indented trees, where a folder's line is above those of its files."""
    found = []
    for block in re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        above: list[tuple[int, str]] = []  # the folders that a line is in, with their indentation
        for line in block.splitlines():
            indent = len(line) - len(line.lstrip())
            above = [(depth, name) for depth, name in above if depth < indent]
            if folder := re.match(r"\s*(\S+/)(\s|$)", line):
                above.append((indent, folder[1]))
            place = "".join(name for _, name in above)
            found += [f"{place}{name}" for name in re.findall(r"\w+\.py\b", line)]
    return found


def commands(text: str) -> list[list[str]]:
    """The arguments of each `python train.py` in code, without commands that have placeholders."""
    found = [match.strip() for match in COMMAND.findall(text.replace("\\\n", " "))]
    return [shlex.split(arguments) for arguments in found if not PLACEHOLDER.search(arguments)]


@cache
def checked(*arguments: str) -> None:
    """Check a command, once for all pages."""
    check(arguments, REPOSITORY / "conf")


@pytest.mark.parametrize("page", PAGES)
def test_linked_files_exist(page: str):
    folder = (REPOSITORY / page).parent
    broken = [link for link in links(PAGES[page]) if not (folder / unquote(link.partition("#")[0])).exists()]
    assert not broken


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_code_exist(page: str):
    named = [*paths(PAGES[page]), *tree(PAGES[page])]
    assert not [path for path in named if not (REPOSITORY / path).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_commands_pass_the_config_check(page: str):
    new = {Path(path).stem for path in NEW_FILE.findall(PAGES[page])}
    for arguments in commands(PAGES[page]):
        # A page's new experiment has a test of its own; a resumed run is checked against its saved config.
        if any(word.partition("=")[2] in new or word.startswith("resume=") for word in arguments):
            continue
        study = re.fullmatch(r"-m study=(\w+)", " ".join(arguments))
        if study:  # whose jobs are checked in test_studies.py
            assert (REPOSITORY / f"conf/study/{study[1]}.yaml").exists()
        else:
            checked(*arguments)


def test_the_patterns_find_links_paths_and_commands():
    text = """[a](../src/x.py#L3 "title") <img src="docs/a%20b.png"> [b](https://c.d) [e](#f)
        `src/triptych/x.py` `conf/model/` `val/rmse` `logs/<experiment>/latest` `src/NAME/x.py` `python train.py a=1`
        python train.py -m experiment=denoise \\\n seed=1,2  # a remark
        python train.py experiment=NAME
```text
train.py          the door
src/
  base.py, run.py
  data/           loader.py and others
    images.py
                  what splits.py needs
tests/
```
"""
    assert links(text) == ["../src/x.py#L3", "docs/a%20b.png"]
    assert paths(text) == ["src/triptych/x.py", "conf/model/"]
    assert tree(text) == [
        "train.py",
        *("src/base.py", "src/run.py", "src/data/loader.py", "src/data/images.py", "src/data/splits.py"),
    ]
    assert commands(text) == [["a=1"], ["-m", "experiment=denoise", "seed=1,2"]]
    assert "docs/adding-a-task.md" in PAGES
