"""Storage of a search's trials: an Optuna study in an SQLite database in the sweep's directory.

The number of a trial is the number of its job, and so the name of its run directory.
"""

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Elsewhere only in functions: importing Optuna takes most of a second, and many runs and reports need no search.
    from optuna import Study
    from optuna.storages import RDBStorage

DATABASE = "search.db"
NAME = "search"
DEFINITION = "asked"
"""User attribute of the study that records the request: ``objectives``, ``settings`` and ``pruning``."""
PATIENCE = 60.0
"""Seconds to wait while another process writes to the database."""


def create_study(folder: Path, definition: Mapping[str, Any]) -> "Study":
    """Create the study of a sweep, or load it if it exists; the caller must hold the sweep's lock.

    Args:
        folder: the sweep's directory.
        definition: ``objectives`` (metric to ``minimize`` or ``maximize``), ``settings`` (the overrides of every job;
            those that are searched as parsed by Hydra) and ``pruning`` (null, or ``startup_trials`` and
            ``warmup_epochs``).

    Raises:
        ValueError: the existing study has other objectives or settings.
    """
    import optuna

    _quiet()
    study = optuna.create_study(
        storage=_storage(folder / DATABASE, "rwc"),
        study_name=NAME,
        directions=list(definition["objectives"].values()),
        load_if_exists=True,
    )
    before = study.user_attrs.get(DEFINITION, definition)
    for key in ("objectives", "settings"):
        if before[key] != definition[key]:
            raise ValueError(
                f"the search in {folder} has other {key}: {_difference(before[key], definition[key])}. Resume it as it "
                "is, with python train.py -m resume=PATH, or begin another"
            )
    study.set_user_attr(DEFINITION, definition)
    return study


def open_study(folder: Path) -> "Study":
    """Load the study of a sweep, with its pruner, in order to add to its trials."""
    import optuna

    _quiet()
    study = optuna.load_study(study_name=NAME, storage=_storage(folder / DATABASE, "rw"))
    pruning = study.user_attrs[DEFINITION]["pruning"]
    study.pruner = optuna.pruners.NopPruner()
    if pruning:
        startup, warmup = int(pruning["startup_trials"]), int(pruning["warmup_epochs"])
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup)
    return study


@contextmanager
def read_study(folder: Path) -> Iterator["Study"]:
    """Yield a temporary copy of the study of a sweep, for reading only.

    The database may be untrusted: Optuna stores values as JSON, so that reading them executes nothing.

    Raises:
        ValueError: the database is damaged, or not that of a search.
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
            # An untrusted database can raise any error of SQLite, SQLAlchemy, Alembic or Optuna.
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"{folder / DATABASE} cannot be read ({type(error).__name__}: {reason})") from error
        yield study


def _copy(database: Path, copy: Path) -> None:
    try:
        with closing(_connect(database, "ro")) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    except sqlite3.OperationalError:
        # A killed writer left a journal, which SQLite must roll back before reading; that takes write access.
        for path in database.parent.glob(f"{DATABASE}*"):
            shutil.copy(path, copy.parent)


def _storage(path: Path, mode: str) -> "RDBStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy.pool import NullPool

    # Connect here instead of by a URL of SQLAlchemy's, since a path may contain any character.
    return RDBStorage("sqlite://", engine_kwargs={"creator": lambda: _connect(path, mode), "poolclass": NullPool})


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, check_same_thread=False)


def _difference(before: Any, now: Any) -> str:
    """Describe what is only in one of the two mappings."""
    old, new = ([f"{key}={item}" for key, item in value.items()] for value in (before, now))
    gone, come = [line for line in old if line not in new], [line for line in new if line not in old]
    return f"{', '.join(gone) or 'nothing'} then, {', '.join(come) or 'nothing'} now"


def _quiet() -> None:
    """Limit Optuna's log to warnings: the project prints its own line for each trial."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
