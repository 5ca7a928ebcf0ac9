"""Run scaled-down experiments, in this process or through the command line."""

import os
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

REPOSITORY = Path(__file__).parent.parent
CONF = REPOSITORY / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml") if not path.stem.endswith("_best"))
"""One for each panel (task)."""
BEST = sorted(path.stem for path in (CONF / "experiment").glob("*_best.yaml"))
"""The variants that train long enough for the best result."""

FASTEST = "housing" if "housing" in EXPERIMENTS else EXPERIMENTS[0]

# The cheapest network of each panel.
CHEAPEST = {"denoise": ["model=autoencoder"], "pneumonia": ["model=cnn"], "housing": ["model=mlp"]}

# Small networks on small samples; an experiment not listed here runs at its own size.
SMALL = {
    "denoise": ["data.crop_size=32", "data.crops_per_page=2", "data.batch_size=8", "model.network.width=4"],
    "pneumonia": ["data.image_size=32", "data.batch_size=8", "model.network.width=4"],
    "housing": ["data.batch_size=32", "model.network.width=16"],
}
# The panels with an analysis callback, and what makes its figures quick to draw.
ANALYSES = {"pneumonia": ["callbacks.analysis.replicates=20"], "housing": []}
# Additional overrides for the default network of the housing experiment.
FEW_NEIGHBOURS = [
    "model.network.members=2",
    "model.network.krigings=1",
    "model.network.neighbours=8",
    "model.network.heads=4",
    "model.network.kriged=8",
]


def small(experiment: str, data_root: Path, *overrides: str, pictures: bool = False) -> list[str]:
    """Return the command line of a scaled-down experiment: two epochs on the files in ``data_root``.

    Figures are drawn only with ``pictures``: they take longer than everything else.
    """
    common = [f"data.root={data_root}", "data.source=files", "trainer=cpu", "trainer.max_epochs=2", "threads=1"]
    panel = experiment.removesuffix("_best")
    own = panel == "housing" and not any(override.startswith("model=") for override in overrides)
    size = [*SMALL.get(panel, []), *(FEW_NEIGHBOURS if own else [])]
    drawn = ANALYSES.get(panel, []) if pictures else without_pictures(panel)
    return [f"experiment={experiment}", *common, *size, *drawn, *overrides]


def cheapest(data_root: Path, *overrides: str) -> list[str]:
    """Return the command line of the cheapest run, for tests of everything around the network."""
    return small(FASTEST, data_root, *CHEAPEST.get(FASTEST, []), *overrides)


def without_pictures(panel: str) -> list[str]:
    """Return overrides that turn off the figures of the epochs and of the test."""
    drawn = "callbacks.figures.every_n_epochs=0"  # a later override can turn it on again
    return [drawn, *(["callbacks.analysis.enabled=false"] if panel in ANALYSES else [])]


def train(directory: Path, *overrides: str, resume_from: Path | None = None) -> dict[str, Any]:
    """Run in this process, as train.py does, into ``directory``; return the contents of metrics.json."""
    from triptych.run import run

    config = deepcopy(composed(overrides))
    choices: dict[str, Any] = dict(config.hydra.runtime.choices)
    with read_write(config), open_dict(config):
        del config["hydra"]
    saved = directory / ".hydra"
    saved.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, saved / "config.yaml")
    OmegaConf.save(OmegaConf.create({"hydra": {"runtime": {"choices": choices}}}), saved / "hydra.yaml")
    (saved / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    return run(config, directory, choices["experiment"], resume_from)


@cache
def composed(overrides: tuple[str, ...]) -> DictConfig:
    """Compose the config; cached, because this takes as long as training a small network."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)


def command(*arguments: str, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run ``python train.py ARGUMENTS`` as a subprocess in the folder ``cwd``, whose modules it can import."""
    return subprocess.run(
        [sys.executable, REPOSITORY / "train.py", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{cwd}"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
