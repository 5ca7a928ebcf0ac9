"""Write a trained network for use without this project: raw inputs in, answers in the user's units out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from triptych.build import build
from triptych.files import replaced
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
    """What was written.

    Attributes:
        path: the file; the model card lies beside it.
        differences: by output, how far the file's values lay from PyTorch's at most.
        samples: on how many inputs.
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
    """Export a run's best checkpoint with all that stands before and behind the network, and a model card.

    The file is written aside, run on samples of the run's data and renamed only if it answers as PyTorch does.

    Args:
        run: a run directory or ``latest``.
        output: a folder, made if missing; None: ``export`` in the run directory.
        form: ``onnx``, or ``torch`` for a program of torch.export.
        root: where the data lie, if not where they lay in training.
        trust: packages of your own whose classes the run's config names.

    Raises:
        ValueError: there is no such run, its data are not there or do not say what an export takes, the folder cannot
            be made, or a package is missing.
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
        # Of many kinds, for a checkpoint of any origin: its names of classes or columns need not be those of the data.
        raise ValueError(
            f"the checkpoint does not fit the data ({type(error).__name__}: {first_line(error)})"
        ) from error
    record = read_record(loaded.directory)
    facts = metadata(record, loaded.config, serving)

    program = trace(serving)
    path = folder / chosen.file
    with replaced(path) as aside:
        chosen.write(program, serving, facts, aside)
        differences = largest_differences(serving, loaded.model, chosen.runner(aside))
    with replaced(folder / CARD) as aside:
        aside.write_text(model_card(record, serving, facts, form, differences), encoding="utf-8")
    return Exported(path, differences, len(serving.samples))
