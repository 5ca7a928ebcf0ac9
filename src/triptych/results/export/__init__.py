"""Export a trained model for use without this project, from raw inputs to outputs in the user's units."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from triptych.build import build
from triptych.files import atomic_write
from triptych.results import load_run
from triptych.results.export.card import CARD, model_card
from triptych.results.export.errors import first_line
from triptych.results.export.formats import FORMATS
from triptych.results.export.metadata import metadata
from triptych.results.export.parity import largest_differences
from triptych.results.export.program import trace
from triptych.results.output import make_folder
from triptych.results.record import read_record
from triptych.results.untrusted import inside


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        path: the file; the model card is beside it.
        differences: by output, the largest difference between the file's values and PyTorch's.
        samples: the number of inputs that were compared.
    """

    path: Path
    differences: dict[str, float]
    samples: int


def export(
    run: str,
    output: Path | None = None,
    form: str = "onnx",
    root: str | None = None,
    trust: Iterable[str] = (),
) -> Exported:
    """Export a run's best checkpoint, with pre- and postprocessing and a model card.

    The file is written under a temporary name, run on samples of the run's data, and renamed only if its outputs agree
    with PyTorch's.

    Args:
        run: a run directory or ``latest``.
        output: a folder, created if missing; None for ``export`` in the run directory.
        form: ``onnx``, or ``torch`` for a program of torch.export.
        root: folder of the data, if they have moved since training.
        trust: your own packages whose classes the run's config may name.

    Raises:
        ValueError: there is no such run, its data are missing or define no ``serving``, the checkpoint does not fit
            them, the folder cannot be created, or a package is missing.
        ExportError: the model cannot be exported, or the file differs from PyTorch.
    """
    chosen = FORMATS[form]
    chosen.require()
    loaded = load_run(run, trust=trust)
    folder = loaded.directory / "export" if output is None else output
    if output is None and not inside(folder, loaded.directory):
        raise ValueError(f"{folder} is a link out of the run directory: name a folder of your own with --output")
    make_folder(folder)
    datamodule = loaded.datamodule
    if root is not None:
        datamodule = build(loaded.config["data"] | {"root": root, "source": "files"})
    datamodule.setup()
    try:
        serving = datamodule.serving(loaded.model)
    except OSError:
        raise
    except NotImplementedError as error:
        raise ValueError(first_line(error)) from error
    except Exception as error:
        # An untrusted checkpoint can raise any error here: its class or column names need not be those of the data.
        raise ValueError(
            f"the checkpoint does not fit the data ({type(error).__name__}: {first_line(error)})"
        ) from error
    record = read_record(loaded.directory)
    facts = metadata(record, loaded.config, serving)

    program = trace(serving)
    path = folder / chosen.file
    with atomic_write(path) as aside:
        chosen.write(program, serving, facts, aside)
        differences = largest_differences(serving, loaded.model, chosen.runner(aside))
    with atomic_write(folder / CARD) as aside:
        aside.write_text(model_card(record, serving, facts, form, differences), encoding="utf-8")
    return Exported(path, differences, len(serving.samples))
