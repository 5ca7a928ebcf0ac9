"""Resume a sweep: `python train.py -m resume=SWEEP`, handled before Hydra sees the arguments.

The command line that started the sweep is read back from its ``multirun.yaml`` and run again in the same directory: its
sweeper plans the same jobs, and the launcher (``hydra_plugins.triptych.launcher``) determines what remains to be done
for each. A sweep's directory is untrusted: it may choose options and set values, as any command line may, and nothing
else.
"""

import argparse
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from triptych.composed import Composer, CompositionError
from triptych.config import ConfigError
from triptych.dotted import quote
from triptych.results.directory import CONFIG, DONE, ERROR, LOGS, REPORT, SWEEP, SWEEP_LOCK, is_locked, write_json
from triptych.results.record import ANEW, PRIMARY, as_read, config_places, read_record
from triptych.results.saved_config import WRITERS
from triptych.results.trials import DATABASE
from triptych.results.untrusted import MOST_YAML_BYTES, leads_outside, parse_yaml, read_json, read_text, refuse_links

LAUNCHERS = Path("hydra") / "launcher"
"""Below conf/: the launchers that can resume jobs. Others, such as Hydra's own, would overwrite them."""
TRIALS = "hydra.sweeper.trials"
SEARCHPATH = "hydra.searchpath"
GIVEN = re.compile(rf"hydra/launcher=|hydra\.launcher\.|{re.escape(TRIALS)}=|{re.escape(SEARCHPATH)}=")
"""Overrides that may be given with ``resume=``, besides those that ``may_change``."""
FLAGS = (("--config-dir", "-cd"), ("--config-name", "-cn"), ("--config-path", "-cp"))
"""Hydra's flags that say where the config is read from."""
JOBS = ".jobs.json"
"""File in a sweep's directory: how many jobs it is to have in total, as far as its launcher knows."""
MOST_JOBS = 10**9


def sweep_resumption(arguments: Sequence[str], conf: Path) -> list[str] | None:
    """The command line that ``-m resume=SWEEP`` stands for; None for any other.

    Args:
        arguments: what follows the program's name. Besides these two, it may choose a launcher and its settings, the
            number of trials of a search, and give again what its directory is not trusted to say: ``packages=[...]``,
            ``--config-dir`` and the like.
        conf: the folder of the config.

    Raises:
        ConfigError: there is no such sweep, its directory cannot be trusted, or an argument is none of those.
    """
    # Quoted too, as Hydra requires of a path with spaces.
    names = [argument.partition("=")[2].strip("'\"") for argument in arguments if argument.startswith("resume=")]
    flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
    if not (names and flags):
        return None
    if len(names) > 1:
        raise ConfigError("resume= is given more than once")
    rest = [argument for argument in arguments if not argument.startswith("resume=") and argument not in flags]
    places, given = _parse_places(rest)
    for argument in given:
        if not (GIVEN.match(argument) or may_change(argument)):
            raise ConfigError(
                f"{argument}: a sweep is resumed as it was started; only a launcher and its settings, a "
                f"search's {TRIALS}=, packages=, data.cache_dir=, settings of loggers and where the config lies can be "
                "given anew"
            )
    trials = next((argument.partition("=")[2] for argument in given if argument.startswith(f"{TRIALS}=")), None)
    folder = find_sweep(names[0], searches=trials is not None)
    if trials is not None:
        _check_trials(trials, folder)
    conf = conf.parent / (places.config_path or conf.name)
    try:
        at_places = [argument for argument in given if argument.startswith(f"{SEARCHPATH}=")]
        composer = Composer(conf, places.config_name or PRIMARY, places.config_dir, at_places)
    except CompositionError as refusal:
        raise ConfigError(str(refusal)) from refusal
    set_places = [f"--{name.replace('_', '-')}={place}" for name, place in vars(places).items() if place is not None]
    command = [*_saved_command(folder, composer, [*set_places, *given]), *given]
    if re.search(r"[\n\r]|\$\{", str(folder)):
        raise ConfigError(f"resume={names[0]}: Hydra cannot take a folder of that name; rename it")
    for launcher in (line.partition("=")[2] for line in command if line.startswith("hydra/launcher=")):
        if not (conf / LAUNCHERS / f"{launcher}.yaml").is_file():
            known = ", ".join(sorted(path.stem for path in (conf / LAUNCHERS).glob("*.yaml")))
            raise ConfigError(f"hydra/launcher={launcher} cannot resume a sweep: choose one of {known}")
    return ["-m", *set_places, *command, f"hydra.sweep.dir={quote(folder)}"]


def find_sweep(name: str, logs: Path = LOGS, searches: bool = False) -> Path:
    """The directory of the sweep with this path, or for ``latest`` the newest below ``logs/sweeps`` with jobs to run.

    Args:
        name: a path or ``latest``.
        logs: folder that contains ``sweeps``.
        searches: whether ``latest`` means the newest search, finished or not, as more trials are asked for.

    Raises:
        ConfigError: there is no such sweep.
    """
    if name == "latest":
        place, kind = (logs / "sweeps").absolute(), "search" if searches else "sweep"
        sweeps = [plan.parent for plan in place.glob(f"*/{SWEEP}") if not searches or _is_search(plan.parent)]
        if not sweeps:
            raise ConfigError(f"resume=latest: no {kind} below {place}")
        newest = sorted(sweeps, key=lambda sweep: sweep.name, reverse=True)
        found = next((sweep for sweep in newest if searches or _is_unfinished(sweep)), None)
        if found is None:
            again = shlex.quote(f"resume={newest[0]}")
            raise ConfigError(
                f"resume=latest: no unfinished sweep below {place}: all have ended or are under way; name one to look "
                f"through it again, -m {again}; a search takes more trials, {TRIALS}=N"
            )
        return found.resolve()
    folder = Path(name)
    if (folder / CONFIG).is_file():
        again = shlex.quote(f"resume={folder}")
        raise ConfigError(f"{folder} is one run, not a sweep: python train.py {again}, without -m")
    if not (folder / SWEEP).is_file():
        raise ConfigError(f"resume={name}: not a sweep: there is no {folder / SWEEP}")
    return folder.resolve()


def record_job_count(folder: Path, count: int) -> None:
    """Record in a sweep's directory how many jobs it is to have in total."""
    write_json(folder / JOBS, {"jobs": count})


def may_change(override: str) -> bool:
    """Whether an override may change when a sweep is resumed: whose code may run, where caches and logs go.

    The job remains the same job, and continues with the new value.
    """
    return bool(ANEW.match(override))


def job_status(directory: Path, overrides: Iterable[str]) -> str:
    """Return the status of a job of a sweep, judging by its directory.

    Args:
        directory: the job's run directory, which may not exist yet.
        overrides: those the job is planned with, without the threads that a launcher adds.

    Returns:
        ``new``: run it. ``begun``: resume from its last checkpoint, or restart with its config if it has none.
        ``ended``: skip it, since it is done, or diverged and would do so again.

    Raises:
        ConfigError: the directory is another job's.
    """
    planned = _jobs_own(overrides)
    record = read_record(directory)
    # Hydra writes the overrides last before a job starts: without them, none has.
    if not record.overrides:
        return "new"
    recorded = _jobs_own(record.overrides)
    if not any(line.startswith("threads=") for line in planned):
        recorded = [line for line in recorded if not line.startswith("threads=")]  # which the launcher may add
    if recorded != planned:
        raise ConfigError(
            f"{directory} is the directory of another job ({' '.join(recorded)}) than the one planned "
            f"({' '.join(planned)}): the files of the sweep have changed since it started; start a new sweep"
        )
    return "ended" if _has_ended(directory) else "begun"


def _jobs_own(overrides: Iterable[str]) -> list[str]:
    """The overrides that identify a job, sorted; Hydra's own are not among them."""
    own = [line for line in overrides if not (line.startswith(("hydra.", "hydra/")) or may_change(line))]
    return sorted(as_read(line).lstrip("+") for line in own)


def _has_ended(directory: Path, of_search: bool = False) -> bool:
    """Whether a job is not to be run again: it is done or diverged, or in a search failed."""
    if (directory / DONE).exists():
        return True
    return (directory / ERROR).exists() and (of_search or read_record(directory).state == "diverged")


def _is_search(sweep: Path) -> bool:
    return (sweep / DATABASE).is_file()


def _is_unfinished(sweep: Path) -> bool:
    """Whether a sweep has jobs to run and no other process is running it; a search may have several processes."""
    jobs = [path for path in sweep.glob("[0-9]*") if path.name.isdecimal()]
    ended = sum(_has_ended(job, _is_search(sweep)) for job in jobs)
    if ended == len(jobs) >= _recorded_job_count(sweep) and (sweep / REPORT).exists():
        return False
    return _is_search(sweep) or not is_locked(sweep / SWEEP_LOCK)


def _recorded_job_count(sweep: Path) -> int:
    """How many jobs a sweep is to have in total; 0 if unknown."""
    try:
        count = read_json(sweep / JOBS)["jobs"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return count if type(count) is int and 0 < count < MOST_JOBS else 0


def _parse_places(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parse Hydra's FLAGS, in all the forms that Hydra accepts; returns them and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for names in FLAGS:
        parser.add_argument(*names)
    try:
        return parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error


def _check_trials(trials: str, sweep: Path) -> None:
    """Check that a search can be asked for this total number of trials, and print it if it has them already.

    Raises:
        ConfigError: the sweep is not a search, or this is not a number from 1.
    """
    if not _is_search(sweep):
        raise ConfigError(f"{TRIALS}={trials}: {sweep} is not a search")
    if not re.fullmatch(r"[1-9]\d{0,8}", trials, re.ASCII):
        raise ConfigError(f"{TRIALS}={trials}: expected a number from 1")
    there = sum(path.name.isdecimal() for path in sweep.iterdir())
    if there >= int(trials):
        print(f"{sweep} has {there} trials already, and {trials} in total were requested: none is added.")


def _saved_command(folder: Path, composer: Composer, given: Sequence[str]) -> list[str]:
    """The overrides that a sweep was started with, without those that are given again or only name its directory.

    Raises:
        ConfigError: the file cannot be read, an override is more than a choice or a value, or the config was read from
            a place that is not given again.
    """
    plan = folder / SWEEP
    try:
        refuse_links(folder)
        hydra: Any = parse_yaml(read_text(plan, MOST_YAML_BYTES))["hydra"]
        lines = [*hydra["overrides"]["task"], *hydra["overrides"]["hydra"]]
        if not all(isinstance(line, str) for line in lines):
            raise TypeError("an override that is not text")
        overrides = OverridesParser.create().parse_overrides(lines)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError, HydraException) as error:
        raise ConfigError(f"{plan} cannot be used: {type(error).__name__}: {error}") from error
    anew = {argument.partition("=")[0].lstrip("+") for argument in given}
    # Config files can name any code to run, and a sweep's directory must not vouch for them.
    if missing := [place for place in config_places(hydra) if place.partition("=")[0] not in anew]:
        raise ConfigError(
            f"{folder} was started with {shlex.join(missing)}, which decides what runs: "
            "give it again after resume= if it is yours"
        )
    left_out = anew | {"hydra.sweep.dir", "hydra.run.dir", "hydra.mode"}
    kept = []
    if _is_search(folder) and TRIALS not in anew and (trials := _recorded_job_count(folder)):
        left_out.add(TRIALS)
        kept.append(f"{TRIALS}={trials}")
    for line, override in zip(lines, overrides, strict=True):
        key = override.key_or_group
        if key in left_out or ("hydra/launcher" in left_out and key.startswith("hydra.launcher.")):
            continue
        line = as_read(line)  # nothing is downloaded again: the data are there
        if complaint := _why_untrusted(line, override, composer):
            raise ConfigError(f"{plan}: {line} {complaint}; its jobs can be resumed one by one, resume={folder}/NUMBER")
        kept.append(line)
    return kept


def _why_untrusted(line: str, override: Override, composer: Composer) -> str:
    """Why an override of a sweep's directory is not trusted; "" if it is."""
    key, _, value = line.lstrip("+~").partition("=")
    is_hydras = key.startswith("hydra")
    if key.startswith("hydra.sweeper.params."):
        key, is_hydras = key.removeprefix("hydra.sweeper.params.").lstrip("+~"), False
    if "_target_" in line or "${" in line:
        return "could make it run or read what is not its own"
    if key.partition(".")[0] == "packages":
        return "says whose code may run, which its directory may not decide: give it again after resume="
    names_places = key.partition(".")[0] in WRITERS and any(map(leads_outside, re.split(r"[\[\],'\" ]+", value)))
    if names_places or "cache_dir" in line or (key == "data.source" and "kaggle" in value):
        remedy = ": give it again after resume=" if key.startswith(("data.cache_dir", "logger.")) else ""
        return f"says where to write or what to fetch, which its directory may not decide{remedy}"
    if override.package is not None or "@" in key:
        return "moves a group to another place"
    if is_hydras and not re.match(r"hydra/(launcher|sweeper)$|hydra\.(launcher|sweeper)\.\w+$", key):
        return "is a setting of Hydra's own"
    if key.startswith("hydra.launcher.") and not re.fullmatch(r"-?[\d.]+|null", value):
        return "may run commands or send jobs away, which its directory may not decide: give it again after resume="
    is_choice = key.startswith("hydra/") or composer.is_group(key)
    if (is_hydras or key.startswith("hydra")) and re.search(r"[{}]", value):
        return "is more than a value"
    if is_choice and re.search(r"[^\w.,\[\]()*' -]|\.\.", value):
        return "is no name of an option"
    return ""
