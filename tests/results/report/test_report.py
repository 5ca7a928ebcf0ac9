"""Whole reports, written from synthetic sweeps."""

import csv
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.fake_sweep import begun, done, failed
from tests.harness import REPOSITORY

from triptych.cli import main
from triptych.results import search, study
from triptych.results.report import report
from triptych.results.section import Section

NASTY = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def call(*arguments: object) -> int:
    """Run ``triptych report ARGUMENTS``; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, arguments)])
    return int(ended.value.code or 0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """The tags with their attributes and the text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def four_states(sweep: Path) -> Path:
    done(sweep, "0", "optimizer=adam", "seed=0", value=48_000, curve=[60_000, 48_000])
    done(sweep, "1", "optimizer=adam", "seed=1", value=48_400, curve=[60_000, 48_400])
    done(sweep, "2", "optimizer=sgd", "seed=0", value=51_000, curve=[70_000, 51_000], pruned=True)
    failed(sweep, "3", "optimizer=sgd", "seed=1", error="ValueError: no [such] thing\n\nTraceback")
    failed(sweep, "4", "optimizer=sgd", "seed=2", error="Diverged: the loss is nan at step 7\n\nTraceback")
    begun(sweep, "5", "optimizer=adam", "seed=2")
    return sweep


def test_a_sweep_is_ranked_alike_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sweep = four_states(tmp_path / "sweep")
    assert call(sweep) == 0

    told = capsys.readouterr().out
    assert re.findall(r"^ +(\d) +(\d) +([\d,]+) +[\d,]+ +(\w+) +\d", told, re.MULTILINE) == [
        ("1", "0", "48,000", "adam"),
        ("2", "1", "48,400", "adam"),
        ("3", "2", "51,000", "sgd"),
    ]
    assert "48,200 ± 283" in told
    assert re.search(r"3 +failed +ValueError: no \[such\] thing", told)
    assert re.search(r"4 +diverged +Diverged: the loss is nan at step 7", told)
    assert re.search(r"5 +interrupted", told)
    assert "Traceback" not in told
    assert "report.html" in told

    table = rows(sweep / "results.csv")
    assert [row["run"] for row in table] == list("012345")
    assert [row["state"] for row in table] == ["done", "done", "pruned", "failed", "diverged", "interrupted"]
    first = table[0]
    assert first == first | {"directory": "0", "optimizer": "adam", "seed": "0", "val/rmse": "48000.0"}
    assert (first["test/rmse"], first["seconds"], first["epochs"]) == ("49500.0", "61.7", "4.0")
    assert (first["steps"], first["parameters"], first["best_epoch"]) == ("208.0", "687905.0", "4.0")
    assert table[3]["error"] == "ValueError: no [such] thing"
    assert table[3]["val/rmse"] == ""

    text = (sweep / "report.md").read_text("utf-8")
    assert "| 1 | 0 | 48,000 | 49,500 | adam | 0 | 4 | 62 | done |" in text
    assert "python train.py experiment=housing optimizer=sgd seed=2  # run 4" in text
    for name in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (sweep / name).read_bytes().startswith(b"\x89PNG")
    assert {path.stem for path in (sweep / "figures").iterdir()} == {"parameter-optimizer", "learning-curves"}

    page = Page(sweep / "report.html")
    assert page.text.count("48,000") == 2  # in the headline and the ranking
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 2


def test_the_page_needs_no_other_file_and_no_network(tmp_path: Path):
    page = Page(report([four_states(tmp_path / "sweep")]).folder / "report.html")
    sources = [
        value for _, given in page.tags for name, value in given.items() if name in ("src", "href", "srcset", "action")
    ]
    assert sources
    assert all(str(source).startswith("data:") for source in sources)
    assert "http" not in page.text
    assert "url(" not in page.text


def test_a_new_report_replaces_the_old_one(tmp_path: Path):
    sweep = four_states(tmp_path / "sweep")
    report([sweep])
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/**/*") if "figures" not in path.parts}
    (sweep / "5" / "error.txt").write_text("KeyError: late\n")
    report([sweep])
    assert rows(sweep / "results.csv")[5]["error"] == "KeyError: late"
    changed = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == []  # no file of a run was written
    assert not [path for path in sweep.rglob(".*") if path.is_file()]  # and no temporary files are left


def test_runs_of_several_sweeps_are_reported_in_a_new_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    done(tmp_path / "one", "0", "optimizer=sgd", value=50_000)
    done(tmp_path / "two", "0", value=48_000)  # adamw, from its saved config
    done(tmp_path / "two", "1", "optimizer=adamw", "model.width=128", value=47_000)
    assert call(tmp_path / "one", tmp_path / "two", tmp_path / "two" / "1") == 0
    (folder,) = (tmp_path / "logs").glob("report-*")
    told = capsys.readouterr().out
    assert re.findall(r"^ +\d +(\w+/\d) +[\d,]+ +[\d,]+ +(\w+) +(\d+)", told, re.MULTILINE) == [
        ("two/1", "adamw", "128"),
        ("two/0", "adamw", "64"),
        ("one/0", "sgd", "64"),
    ]
    assert f"{folder.name}/report.html" in told
    assert {row["directory"] for row in rows(folder / "results.csv")} == {
        *("../../one/0", "../../two/0", "../../two/1")
    }
    assert not (tmp_path / "one" / "report.html").exists()


def test_a_report_is_never_written_into_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = done(tmp_path / "sweep", "0")
    assert call(run, "--output", run) == 2
    assert "name another folder with --output" in capsys.readouterr().err
    assert not (run / "report.html").exists()
    assert call(run, "--output", tmp_path / "out") == 0
    assert (tmp_path / "out" / "report.html").exists()


def test_changes_made_on_resume_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sweep = tmp_path / "sweep"
    resumed = done(sweep, "0", "trainer.max_epochs=8", value=47_000) / ".hydra/resume-1"
    done(sweep, "1", "trainer.max_epochs=8", value=48_000)
    resumed.mkdir()
    (resumed / "overrides.yaml").write_text("[data.batch_size=100, trainer.max_epochs=2]")
    assert call(sweep) == 0
    told = capsys.readouterr().out
    assert re.findall(r"^ +\d +(\d) +[\d,]+ +[\d,]+ +(\d) +(\d+)", told, re.MULTILINE) == [
        ("0", "2", "100"),
        ("1", "8", "256"),  # from its saved config
    ]
    text = (sweep / "report.md").read_text()
    assert "python train.py experiment=housing data.batch_size=100 trainer.max_epochs=2  # run 0" in text


def test_damaged_metrics_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = done(tmp_path / "sweep", "0")
    (run / "metrics.json").write_text((run / "metrics.json").read_text()[:40])
    assert call(tmp_path / "sweep") == 0
    told = capsys.readouterr().out
    assert "it is done, but its metrics.json is damaged" in told
    assert "under way" not in told
    assert rows(tmp_path / "sweep" / "results.csv")[0]["error"] == "it is done, but its metrics.json is damaged"


def test_damaged_files_of_a_run_do_not_stop_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sweep = tmp_path / "sweep"
    done(sweep, "0", curve=[2.0, 1.0], experiment=["a"])
    (done(sweep, "1", value=47_000) / "metrics.csv").write_text(f'step,epoch,val/rmse\n0,0,"{"9" * 200_000}\n')
    assert call(sweep, "--mixed") == 0
    assert "run 1 with 47,000" in capsys.readouterr().out


@pytest.mark.parametrize("taken", ["file", "file/below"])
def test_an_impossible_output_folder_is_refused(taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = done(tmp_path / "sweep", "0")
    (tmp_path / "file").write_text("mine")
    assert call(run, "--output", tmp_path / taken) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path / taken}" in error
    assert "--output" in error
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert call(tmp_path) == 2
    assert "is neither a run nor a sweep" in capsys.readouterr().err


def test_runs_on_different_data_are_ranked_together_only_with_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    done(tmp_path / "sweep", "0", "seed=0", value=48_000)
    done(tmp_path / "sweep", "1", "seed=1", value=47_000, data={"fingerprint": "99aa"})
    assert call(tmp_path / "sweep") == 2
    error = capsys.readouterr().err
    assert "2cf21f490a431a62" in error
    assert "99aa" in error
    assert "--mixed" in error
    assert not (tmp_path / "sweep" / "report.md").exists()

    assert call(tmp_path / "sweep", "--mixed") == 0
    for shown in (capsys.readouterr().out, (tmp_path / "sweep" / "report.md").read_text()):
        assert "These runs differ in more than their settings" in shown
        assert "99aa" in shown
    assert [row["run"] for row in rows(tmp_path / "sweep" / "results.csv")] == ["1", "0"]


def test_a_sweep_over_data_settings_is_ranked_separately(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sweep = tmp_path / "sweep"
    done(sweep, "0", "data.split=grouped", value=48_000)
    done(sweep, "1", "data.split=random", value=47_000, data={"split": "random"})
    (sweep / "multirun.yaml").touch()
    assert call(sweep) == 0
    told = capsys.readouterr().out
    assert "Ranking: data.split grouped" in told
    assert "Ranking: data.split random" in told
    assert call(sweep, "--mixed") == 0
    assert "ranked together, as was asked for" in capsys.readouterr().out
    assert call(sweep / "0", sweep / "1") == 2
    assert "--mixed" in capsys.readouterr().err


def test_monitor_and_mode_choose_the_ranking_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name, r2 in (("0", 0.7), ("1", 0.8)):
        done(
            tmp_path / "sweep", name, f"seed={name}", best={"val/rmse": 48_000 + int(name), "val/r2": r2, "val/odd": r2}
        )
    assert call(tmp_path / "sweep", "--monitor", "val/r2") == 0
    assert "Best by val/r2 (larger is better): run 1 with 0.8" in capsys.readouterr().out
    assert call(tmp_path / "sweep", "--monitor", "val/odd") == 2
    assert "--mode min" in capsys.readouterr().err
    assert call(tmp_path / "sweep", "--monitor", "val/odd", "--mode", "min") == 0
    assert "run 0 with 0.7" in capsys.readouterr().out
    assert call(tmp_path / "sweep", "--monitor", "val/rsme") == 2
    assert "choose one of val/rmse, val/r2, val/odd" in capsys.readouterr().err


def test_untrusted_text_is_escaped_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sweep = tmp_path / f"{NASTY.replace('/', '_')} [red]|`a`"
    done(
        sweep,
        f"0{NASTY.replace('/', '_')}",
        f"model.name={NASTY}|`x`$y$\n\nVerdict: holds",
        best={"val/rmse": 1.0, f"val/{NASTY}": 2.0},
        test={"test/rmse": 1.0},
        curve=[2.0, 1.0],
    )
    done(sweep, "1", "model.name=plain", value=2.0, monitor="val/rmse", curve=[3.0, 2.0])
    failed(sweep, "2", error=f"ValueError: {NASTY} [bold]x[/bold] :smile: \x1b[31m\x1b]0;title\x07\u202e\n")
    assert call(sweep) == 0

    told = capsys.readouterr().out
    assert not [letter for letter in told if not letter.isprintable() and letter != "\n"]
    assert f"{NASTY} [bold]x[/bold] :smile:" in told

    page = Page(sweep / "report.html")
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert NASTY in page.text
    assert f"model.name={NASTY}" in page.text

    text = (sweep / "report.md").read_text("utf-8")
    assert "Verdict:" in text
    assert not re.search(r"^\W*Verdict:", text, re.MULTILINE)
    (ranked,) = [line for line in text.splitlines() if line.startswith("| 1 |")]
    assert len(re.findall(r"(?<!\\)\|", ranked)) == 8  # seven cells, despite the pipes in their text
    outside_code = text.partition("```bash")[0]
    assert "<script>" not in outside_code
    assert not re.search(r"(?<!\\)[`<]", outside_code)

    table = rows(sweep / "results.csv")
    assert table[0]["model.name"] == f"{NASTY}|`x`$y$\n\nVerdict: holds"


def test_the_reported_command_repeats_the_run(tmp_path: Path):
    overrides = ["model.name='a b'", "data.augment=[flip,crop]", "+trainer.x=$HOME;rm", "~callbacks.figures"]
    done(tmp_path / "sweep", "0", *overrides, "study=activations", "study.arm=relu", "search=null")
    written = report([tmp_path / "sweep"])
    (command,) = re.findall(r"^python train.py.*$", (written.folder / "report.md").read_text(), re.MULTILINE)
    assert shlex.split(command, comments=True) == ["python", "train.py", "experiment=housing", *overrides]


def test_study_and_search_sections_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from matplotlib.figure import Figure
    from tests.fake_sweep import CONFIG

    sweep = tmp_path / "sweep"
    for name, arm in (("0", "relu"), ("1", "sigmoid")):
        config = CONFIG | {"study": {"claim": "Sigmoid's gradients vanish.", "arm": arm}}
        done(sweep, name, "study=activations", f"study.arm={arm}", value=40_000 + int(name), config=config)
    (sweep / "search.db").touch()
    asked: list[Any] = []

    def said(records: Any, folder: Path) -> list[Section]:
        asked.append(([record.name for record in records], folder))
        lines = ["Sigmoid's gradients <vanish>.", "Verdict: holds", "Effect 3.1, 95 % interval 2 to 4, 5 seeds"]
        return [Section("Study: activations", lines, ["arm", "ratio"], [["relu", "1.5"]], {"study": Figure((5, 3))})]

    def broken(records: Any, folder: Path) -> list[Section]:
        raise RuntimeError("no such table: trials")

    monkeypatch.setattr(study, "sections", said)
    monkeypatch.setattr(search, "sections", broken)
    report([sweep])
    assert asked == [(["0", "1"], sweep)]
    lines = (sweep / "report.md").read_text("utf-8").splitlines()
    assert lines.count("Verdict: holds") == 1
    assert [line for line in lines if line.startswith("Verdict:")] == ["Verdict: holds"]
    assert lines.index("Verdict: holds") < lines.index("## Ranking")
    assert "| relu | 1.5 |" in lines
    assert "![study](figures/study.png)" in lines
    assert "A part of this report could not be made: no such table: trials" in lines
    told = capsys.readouterr().out
    assert told.index("Verdict: holds") < told.index("2 runs: 2 done")
    assert re.search(r"1 +0 +40,000 +41,500 +relu", told)
    page = (sweep / "report.html").read_text("utf-8")
    assert page.index("Verdict: <strong>holds</strong>") < page.index("<h2>Ranking</h2>")


@pytest.mark.parametrize("left", ["one run", "all failed", "killed at its start", "no value", "one point"])
def test_a_report_works_with_very_little(left: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sweep = tmp_path / "sweep"
    if left == "one run":
        done(sweep, "0")
    elif left == "all failed":
        failed(sweep, "0", error="ValueError: no")
    elif left == "killed at its start":
        (sweep / "0" / ".hydra").mkdir(parents=True)
    elif left == "no value":
        done(sweep, "0", value=None)
    else:
        done(sweep, "0", curve=[48_000.0])
    report([sweep])
    told = capsys.readouterr().out
    assert ("there is nothing to rank" in told) == (left in ("all failed", "killed at its start", "no value"))
    assert ("Not finished" in told) == (left in ("all failed", "killed at its start"))
    assert (sweep / "figures" / "learning-curves.png").exists() == (left == "one point")
    assert {path.name for path in sweep.glob("re*")} == {"results.csv", "report.md", "report.html"}


def test_the_page_template_is_in_the_wheel(tmp_path: Path):
    from zipfile import ZipFile

    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {Path(name).name for name in ZipFile(wheel).namelist() if "results/report/template/" in name}
    assert names == {"page.html", "page.css", "page.js"}


def thousand(sweep: Path) -> None:
    """Write a search of a thousand runs."""
    for job in range(1000):
        overrides = [f"optimizer.lr={10 ** (-4 + job / 333)}", f"model.width={2 ** (4 + job % 5)}", f"seed={job % 3}"]
        if job % 97 == 0:
            failed(sweep, str(job), *overrides, error="Diverged: the loss is nan")
        else:
            done(sweep, str(job), *overrides, value=48_000 + 7 * job, curve=[70_000 - 30 * e for e in range(100)])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's peak memory")
def test_a_report_on_a_thousand_runs_takes_less_than_a_gigabyte(tmp_path: Path):
    thousand(tmp_path / "sweep")
    script = (
        "import sys; from triptych.results.report import report; report([sys.argv[1]]);"
        "print('peak', *(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "sweep"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "1000 runs: 989 done, 11 diverged" in ended.stdout
    assert len(rows(tmp_path / "sweep" / "results.csv")) == 1000
    # Not getrusage, whose peak includes the process before exec: a copy of pytest.
    assert int(ended.stdout.split()[-1]) < 1e6


def test_no_csv_cell_is_a_spreadsheet_formula(tmp_path: Path):
    sweep = tmp_path / "sweep"
    failed(sweep, "0", "=cmd|' /C calc'!A0=1", "model.x=@SUM(1)", "seed=-1", error="=HYPERLINK(1)\x1b[2J")
    report([sweep])
    with (sweep / "results.csv").open(newline="") as file:
        header, row = csv.reader(file)
    cells = dict(zip(header, row, strict=True))
    assert (cells["model.x"], cells["seed"], cells["error"]) == ("'@SUM(1)", "-1", "'=HYPERLINK(1) [2J")
    assert not any(cell.startswith(("=", "@", "+")) for cell in [*header, *row])


def test_figures_are_not_written_through_a_symlink(tmp_path: Path):
    sweep = tmp_path / "sweep"
    failed(sweep, "0", error="x")
    (tmp_path / "elsewhere").mkdir()
    (sweep / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="figures is a link"):
        report([sweep])
    assert not any((tmp_path / "elsewhere").iterdir())
