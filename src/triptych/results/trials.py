"""The trials of a search: Optuna's study, in a database in the sweep's directory.

A trial has the number of its run, and so the name of its directory.
"""

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Else in functions only: Optuna takes most of a second, and many a run and report is of no search.
    from optuna import Study
    from optuna.storages import RDBStorage

DATABASE = "search.db"
NAME = "search"
ASKED = "asked"
"""What the study keeps of what it was asked to search: ``objectives``, ``settings`` and ``pruning``."""
PATIENCE = 60.0
"""Seconds to wait for another process that writes."""


def create_study(folder: Path, asked: Mapping[str, Any]) -> "Study":
    """Open the study of a sweep, or begin one; only for who holds the sweep's lock.

    Args:
        folder: the sweep's directory.
        asked: ``objectives`` (metric to ``minimize`` or ``maximize``), ``settings`` (the overrides of every job, those
            that are searched as Hydra reads them) and ``pruning`` (null, or ``startup_trials`` and ``warmup_epochs``).

    Raises:
        ValueError: the study that is there searches something else.
    """
    import optuna

    _quiet()
    study = optuna.create_study(
        storage=_storage(folder / DATABASE, "rwc"),
        study_name=NAME,
        directions=list(asked["objectives"].values()),
        load_if_exists=True,
    )
    before = study.user_attrs.get(ASKED, asked)
    for key in ("objectives", "settings"):
        if before[key] != asked[key]:
            raise ValueError(
                f"the search in {folder} has other {key}: {_difference(before[key], asked[key])}. Go on with it as it "
                "is, with python train.py -m resume=PATH, or begin another"
            )
    study.set_user_attr(ASKED, asked)
    return study


def open_study(folder: Path) -> "Study":
    """The study of a sweep, to add to its trials."""
    import optuna

    _quiet()
    study = optuna.load_study(study_name=NAME, storage=_storage(folder / DATABASE, "rw"))
    pruning = study.user_attrs[ASKED]["pruning"]
    study.pruner = optuna.pruners.NopPruner()
    if pruning:
        startup, warmup = int(pruning["startup_trials"]), int(pruning["warmup_epochs"])
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)
    return study


@contextmanager
def read_study(folder: Path) -> Iterator["Study"]:
    """The study of a sweep, to be read, whoever made it: a copy, of which nothing is run. Optuna keeps JSON only.

    Raises:
        ValueError: the database is damaged, or none of a search.
    """
    import optuna

    _quiet()
    with TemporaryDirectory() as aside:
        copy = Path(aside) / DATABASE
        try:
            _copy(folder / DATABASE, copy)
            study = optuna.load_study(study_name=NAME, storage=_storage(copy, "rw"))
            study.get_trials(deepcopy=False)
        except Exception as error:
            # Errors of SQLite, SQLAlchemy, Alembic and Optuna of every kind, for a database of any origin.
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"{folder / DATABASE} cannot be read ({type(error).__name__}: {reason})") from error
        yield study


def _copy(database: Path, copy: Path) -> None:
    try:
        with closing(_connect(database, "ro")) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    except sqlite3.OperationalError:
        # A writer was killed and left a journal, which SQLite must play back, with write access, before it can read.
        for path in database.parent.glob(f"{DATABASE}*"):
            shutil.copy(path, copy.parent)


def _storage(path: Path, mode: str) -> "RDBStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy.pool import NullPool

    # A connection made here, and not from a URL: any character may stand in a path.
    return RDBStorage("sqlite://", engine_kwargs={"creator": lambda: _connect(path, mode), "poolclass": NullPool})


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, check_same_thread=False)


def _difference(before: Any, now: Any) -> str:
    """What is only here or only there."""
    old, new = ([f"{key}={item}" for key, item in value.items()] for value in (before, now))
    gone, come = [line for line in old if line not in new], [line for line in new if line not in old]
    return f"{', '.join(gone) or 'nothing'} then, {', '.join(come) or 'nothing'} now"


def _quiet() -> None:
    """Of Optuna only warnings: a trial has a line of ours."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
