"""Plan `triptych reproduce RUN`: repeat a finished run, from its saved config, in a new directory."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from triptych.dotted import quote
from triptych.results.directory import CONFIG, HYDRA, LOGS, METRICS, find_run, new_run_id
from triptych.results.record import Record, read_record
from triptych.results.saved_config import read_choices, read_config
from triptych.results.untrusted import check_threads, mapping

_ENDS = {
    "pruned": "its search stopped it early",
    "diverged": "it diverged",
    "failed": "it failed",
    "interrupted": "it has not ended, or its metrics.json is damaged (python train.py resume=RUN continues it)",
}


@dataclass(frozen=True)
class Reproduction:
    """A run to repeat.

    Attributes:
        original: the run as it ended.
        config: its config, with its number of threads and its data.
        choices: the option of each group, its experiment among them.
        directory: where the new run goes.
        overrides: the command line that repeats it.
        fingerprint: that of the data it was trained on.
    """

    original: Record
    config: DictConfig
    choices: dict[str, str]
    directory: Path
    overrides: list[str]
    fingerprint: str

    def begin(self) -> None:
        """Create the new run directory, with the files that Hydra writes for any run."""
        hydra = self.directory / CONFIG.parent
        hydra.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.directory / CONFIG)
        (hydra / "overrides.yaml").write_text(yaml.safe_dump(self.overrides))
        kept = {"runtime": {"choices": self.choices}, "overrides": {"hydra": self.original.places}}
        (self.directory / HYDRA).write_text(yaml.safe_dump({"hydra": kept}))


def plan_reproduction(
    run: str, root: str | None = None, output: Path | None = None, trust: Sequence[str] = ()
) -> Reproduction:
    """Read the run to repeat. Its directory is untrusted, and is only read.

    Args:
        run: a run directory or ``latest``.
        root: the folder of the data, if they have moved since training.
        output: the new run directory; by default a new one of the experiment.
        trust: packages of your own whose classes the run's config names.

    Raises:
        ValueError: there is no such run, it did not end well, its directory is damaged, or the output is taken.
    """
    record = read_record(find_run(run))
    if record.state != "done":
        raise ValueError(f"{record.directory} has nothing to compare with: {_ENDS[record.state]}")
    choices, config = read_choices(record.directory), read_config(record.directory)
    data, threads = mapping(record.metrics.get("data")), record.metrics.get("threads")
    known = all(isinstance(data.get(key), str) for key in ("root", "fingerprint"))
    if not known or data.get("source") not in ("files", "synthetic"):
        raise ValueError(f"{record.directory / METRICS} does not say which data the run was trained on")
    try:
        check_threads(threads)
    except ValueError as error:
        raise ValueError(f"{record.directory / METRICS}: {error}") from error
    # The same data, wherever TRIPTYCH_DATA points now; never synthetic data in place of files.
    place = {"source": "synthetic"}
    if data["source"] == "files" or root is not None:
        place = {"source": "files", "root": root or str(Path(data["root"]).parent)}
    if any("${" in value for value in place.values()):
        # OmegaConf would interpolate it, also from the environment.
        raise ValueError(f"{place['root']!r} is not a folder of data: it contains ${{")
    config["data"] |= place
    # A run directory must not decide whose code may run.
    config |= {"threads": threads, "packages": list(trust)}
    directory = output or LOGS / choices["experiment"] / new_run_id()
    if "LOCAL_RANK" not in os.environ and directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{directory} is not empty: name a new folder for the new run")
    given = {"threads": threads, **{f"data.{key}": value for key, value in place.items()}}
    lines = [line for line in record.arguments if line.partition("=")[0] not in (*given, "packages")]
    lines += [f"{key}={quote(value)}" for key, value in given.items()]
    lines += [f"packages=[{','.join(trust)}]"] if trust else []
    return Reproduction(record, OmegaConf.create(config), choices, directory.absolute(), lines, data["fingerprint"])
