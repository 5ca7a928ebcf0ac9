"""Going on with a sweep: `python train.py -m resume=SWEEP`, before Hydra sees the arguments.

The command line that the sweep was started with is read back from its ``multirun.yaml`` and run again in the same
directory: its sweeper plans the same jobs, and the launcher (``hydra_plugins.triptych.launcher``) asks for each what
there is to do. A sweep's directory may be a stranger's: what it says may choose options and set values, as anyone's
command line may, and nothing else.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from triptych.config import ConfigError
from triptych.results.directory import CONFIG, DONE, LOGS, SWEEP
from triptych.results.record import ANEW, read_record
from triptych.results.saved_config import WRITERS
from triptych.results.stranger import MOST_YAML_BYTES, leads_elsewhere, parse_yaml, read_text, refuse_links

LAUNCHERS = Path("hydra") / "launcher"
"""Below conf/: the launchers that go on with jobs. Others, such as Hydra's own, would write over them."""
LAUNCHING = re.compile(r"hydra/launcher=|hydra\.launcher\.")


def sweep_resumption(arguments: Sequence[str], conf: Path) -> list[str] | None:
    """The command line that ``-m resume=SWEEP`` stands for; None for any other.

    Args:
        arguments: what follows the program's name. Beside the two, a launcher and its settings may be chosen, and
            ``packages=[...]`` given again.
        conf: the folder of the config.

    Raises:
        ConfigError: there is no such sweep, its directory cannot be trusted, or an argument is none of those.
    """
    names = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
    if not (names and flags):
        return None
    if len(names) > 1:
        raise ConfigError("resume= is given more than once")
    folder = find_sweep(names[0])
    given = [argument for argument in arguments if not argument.startswith("resume=") and argument not in flags]
    for argument in given:
        if not (LAUNCHING.match(argument) or may_change(argument)):
            raise ConfigError(
                f"{argument}: a sweep goes on as it began; only a launcher and its settings, packages=, "
                "data.cache_dir= and settings of loggers can be given anew"
            )
    command = [*_saved_command(folder, conf, given), *given]
    if re.search(r"[\n\r]|\$\{", str(folder)):
        raise ConfigError(f"resume={names[0]}: Hydra cannot take a folder of that name; rename it")
    for launcher in (line.partition("=")[2] for line in command if line.startswith("hydra/launcher=")):
        if not (conf / LAUNCHERS / f"{launcher}.yaml").is_file():
            known = ", ".join(sorted(path.stem for path in (conf / LAUNCHERS).glob("*.yaml")))
            raise ConfigError(f"hydra/launcher={launcher} cannot go on with a sweep: choose one of {known}")
    quoted = re.sub(r"(\\+)(?='|$)|(')", lambda found: 2 * (found[1] or "") or "\\'", str(folder))
    return ["-m", *command, f"hydra.sweep.dir='{quoted}'"]


def find_sweep(name: str, logs: Path = LOGS) -> Path:
    """The directory of the sweep with this path, or with ``latest`` the newest below ``logs/sweeps``.

    Raises:
        ConfigError: there is no such sweep.
    """
    if name == "latest":
        plans = list((logs / "sweeps").glob(f"*/{SWEEP}"))
        if not plans:
            raise ConfigError(f"resume=latest: no sweep below {(logs / 'sweeps').absolute()}")
        return max(plans, key=lambda plan: plan.parent.name).parent.resolve()
    folder = Path(name)
    if (folder / CONFIG).is_file():
        again = shlex.quote(f"resume={folder}")
        raise ConfigError(f"{folder} is one run, not a sweep: python train.py {again}, without -m")
    if not (folder / SWEEP).is_file():
        raise ConfigError(f"resume={name}: that is no sweep, for there is no {folder / SWEEP}")
    return folder.resolve()


def may_change(override: str) -> bool:
    """Whether an override may have another value when a sweep goes on: whose code may run, where caches and logs go.

    A job stays the same job, and goes on with the value that is given then.
    """
    return bool(ANEW.match(override))


def standing(directory: Path, overrides: Iterable[str]) -> str:
    """What there is to do for a job of a sweep, as its directory tells.

    Args:
        directory: where the job has, or will have, its run directory.
        overrides: what the job is planned with, without the threads that a launcher adds.

    Returns:
        ``new``: run it. ``begun``: go on from its last checkpoint, or if it has none begin again with its config.
        ``ended``: leave it, for it is done, or diverged and would do so again.

    Raises:
        ConfigError: the directory is another job's.
    """
    planned = _jobs_own(overrides)
    record = read_record(directory)
    # The last file that Hydra writes before a job starts: without it none did.
    if not record.overrides:
        return "new"
    recorded = _jobs_own(record.overrides)
    if not any(line.startswith("threads=") for line in planned):
        recorded = [line for line in recorded if not line.startswith("threads=")]  # which the launcher may add
    if recorded != planned:
        raise ConfigError(
            f"{directory} is the directory of another job ({' '.join(recorded)}) than the one planned "
            f"({' '.join(planned)}): the files of the sweep have changed since it was started; start a new sweep"
        )
    return "ended" if (directory / DONE).exists() or record.state == "diverged" else "begun"


def _jobs_own(overrides: Iterable[str]) -> list[str]:
    """The overrides that make a job this one and no other, in order of their keys; Hydra's own do not."""
    return sorted(line for line in overrides if not (line.startswith(("hydra.", "hydra/")) or may_change(line)))


def _saved_command(folder: Path, conf: Path, given: Sequence[str]) -> list[str]:
    """The overrides that a sweep was started with, without those that are given anew or only say where it lies.

    Raises:
        ConfigError: it cannot be read, or one of them is more than a choice or a value.
    """
    plan = folder / SWEEP
    try:
        refuse_links(folder)
        saved: Any = parse_yaml(read_text(plan, MOST_YAML_BYTES))["hydra"]["overrides"]
        lines = [*saved["task"], *saved["hydra"]]
        if not all(isinstance(line, str) for line in lines):
            raise TypeError("an override that is not text")
        overrides = OverridesParser.create().parse_overrides(lines)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError, HydraException) as error:
        raise ConfigError(f"{plan} cannot be used: {type(error).__name__}: {error}") from error
    left_out = {argument.partition("=")[0].lstrip("+") for argument in given} | {"hydra.sweep.dir", "hydra.mode"}
    kept = []
    for line, override in zip(lines, overrides, strict=True):
        key = override.key_or_group
        if key in left_out or ("hydra/launcher" in left_out and key.startswith("hydra.launcher.")):
            continue
        if complaint := _distrust(line, override, conf):
            raise ConfigError(f"{plan}: {line} {complaint}; its jobs can be resumed one by one, resume={folder}/NUMBER")
        kept.append(line)
    return kept


def _distrust(line: str, override: Override, conf: Path) -> str:
    """Why an override is not taken from a sweep's directory; "" where it may be."""
    key, _, value = line.lstrip("+~").partition("=")
    is_hydras = key.startswith("hydra")
    if key.startswith("hydra.sweeper.params."):
        key, is_hydras = key.removeprefix("hydra.sweeper.params.").lstrip("+~"), False
    if "_target_" in line or "${" in line:
        return "could make it run or read what is not its own"
    if key.partition(".")[0] == "packages":
        return "says whose code may run, which is not for its directory to say: give it again behind resume="
    names_places = key.partition(".")[0] in WRITERS and any(map(leads_elsewhere, re.split(r"[\[\],'\" ]+", value)))
    if names_places or "cache_dir" in line or (key == "data.source" and "kaggle" in value):
        remedy = ": give it again behind resume=" if key.startswith(("data.cache_dir", "logger.")) else ""
        return f"says where to write or what to fetch, which is not for its directory to say{remedy}"
    if override.package is not None or "@" in key:
        return "moves a group to another place"
    if is_hydras and not re.match(r"hydra/(launcher|sweeper)$|hydra\.(launcher|sweeper)\.\w+$", key):
        return "is a setting of Hydra's own"
    if key.startswith("hydra.launcher.") and not re.fullmatch(r"-?[\d.]+|null", value):
        return "may run commands or send jobs away, which is not for its directory to say: give it again behind resume="
    is_choice = key.startswith("hydra/") or (conf / key).is_dir()
    if (is_hydras or key.startswith("hydra")) and re.search(r"[{}]", value):
        return "is more than a value"
    if is_choice and re.search(r"[^\w.,\[\]()*' -]|\.\.", value):
        return "is no name of an option"
    return ""
