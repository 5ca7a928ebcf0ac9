"""Save the figures that callbacks draw, as PNG files and in TensorBoard."""

from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from PIL import Image


def save_figure(trainer: Trainer, figure: Figure, path: Path, tag: str) -> None:
    """Save a figure as the PNG file ``path``, and show it in TensorBoard as ``tag``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            # As an image: `add_figure` would draw the figure again, and drawing takes most of the time.
            with Image.open(path) as drawn:
                pixels = np.asarray(drawn.convert("RGB"))
            logger.experiment.add_image(tag, pixels, trainer.global_step, dataformats="HWC")
