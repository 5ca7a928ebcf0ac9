"""The model card of an exported model: inputs and outputs, usage, metrics, provenance and limits."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from triptych.results.export.formats import FORMATS
from triptych.results.export.program import example_shapes
from triptych.results.record import Record
from triptych.results.report.text import markdown
from triptych.results.summary import format_number

CARD = "README.md"


def model_card(
    record: Record, serving: Any, facts: Mapping[str, str], form: str, differences: Mapping[str, float]
) -> str:
    """Return the model card as Markdown (Mitchell et al. 2019, "Model Cards for Model Reporting").

    Args:
        record: the run.
        serving: the ``Serving`` that was exported.
        facts: the file's metadata.
        form: the format of the file, a key of FORMATS.
        differences: by output, the largest difference between the file's values and PyTorch's.
    """
    return "\n\n".join(_blocks(record, serving, facts, form, differences)) + "\n"


def _blocks(
    record: Record, serving: Any, facts: Mapping[str, str], form: str, differences: Mapping[str, float]
) -> Iterator[str]:
    yield f"# Model card: {markdown(facts.get('task', record.name))}"
    yield (
        f"`{FORMATS[form].file}` is the network of run {markdown(record.name)} at its best epoch, with what comes "
        "before and after it."
    )
    yield "## In and out"
    rows = [("in", port) for port in serving.inputs] + [("out", port) for port in serving.outputs]
    yield _table(
        ("", "name", "shape", "dtype", "what"),
        ((way, port.name, _shape(port.shape), port.dtype, port.text) for way, port in rows),
    )
    yield "A side with a name may have any length."
    yield "## How to run it"
    yield "\n".join(("```python", *(_onnx if form == "onnx" else _torch)(serving), "```"))
    yield "## Metrics"
    yield _table(
        ("metric", "validation", "test"),
        (
            (name, format_number(record.best(f"val/{name}")), format_number(record.test(f"test/{name}")))
            for name in _metrics(record)
        ),
    )
    yield "\n".join(
        f"- `{port.name}` lies within {differences[port.name]:.2g} of PyTorch's on {len(serving.samples)} real inputs "
        f"of several sizes{', as a share of its value' if port.relative else ''} ({port.tolerance:g} is allowed)."
        for port in serving.outputs
    )
    yield "## Data, model and versions"
    yield _table(("what", "value"), facts.items())
    yield "## Limits"
    yield "\n".join(f"- {line}" for line in serving.limits)


def _metrics(record: Record) -> list[str]:
    """Return the names of the validation and test metrics, without the split."""
    parts = [record.metrics.get(part) for part in ("best", "test")]
    names = (name.partition("/") for part in parts if isinstance(part, dict) for name in part)
    return list(dict.fromkeys(name for split, _, name in names if split in ("val", "test")))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shape(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _onnx(serving: Any) -> Iterator[str]:
    yield from ("import numpy as np", "import onnxruntime", "")
    yield f'session = onnxruntime.InferenceSession("{FORMATS["onnx"].file}")'
    yield "inputs = {"
    for port, shape in zip(serving.inputs, example_shapes(serving.inputs), strict=True):
        yield f'    "{port.name}": np.zeros({shape}, np.{port.dtype}),'
    yield "}"
    yield f"[{', '.join(port.name for port in serving.outputs)}] = session.run(None, inputs)"


def _torch(serving: Any) -> Iterator[str]:
    yield from ("import torch", "")
    yield f'model = torch.export.load("{FORMATS["torch"].file}").module()'
    yield "inputs = ["
    for port, shape in zip(serving.inputs, example_shapes(serving.inputs), strict=True):
        yield f"    torch.zeros({shape}, dtype=torch.{port.dtype}),  # {port.name}"
    yield "]"
    yield f"[{', '.join(port.name for port in serving.outputs)}] = model(*inputs)"
