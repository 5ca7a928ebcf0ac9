"""The formats of an exported model, ONNX and torch.export: how to write and how to run each."""

import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.export import ExportedProgram

from triptych.results.export.decompositions import table
from triptych.results.export.errors import ExportError, first_line, quiet
from triptych.results.export.parity import Runner
from triptych.results.report.text import printable


class Format(Protocol):
    """A file format."""

    file: str
    """The name of the file in the output folder."""

    def require(self) -> None:
        """Raise ValueError if a required package is missing."""

    def write(self, program: ExportedProgram, serving: Any, metadata: Mapping[str, str], path: Path) -> None:
        """Write the program to a file; raise ExportError if the format cannot represent it."""

    def runner(self, path: Path) -> Runner:
        """Load the file and return a function that runs it."""


class Onnx:
    """ONNX, for onnxruntime and other runtimes: one file with weights, input and output names, and metadata."""

    file = "model.onnx"

    def require(self) -> None:
        missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
        if missing:
            raise ValueError(
                f"--format onnx needs {', '.join(missing)}: make setup EXTRAS=export (or pip install "
                "'triptych[export]'); --format torch needs nothing more"
            )

    def write(self, program: ExportedProgram, serving: Any, metadata: Mapping[str, str], path: Path) -> None:
        names = [[port.name for port in ports] for ports in (serving.inputs, serving.outputs)]
        try:
            with quiet():
                program = program.run_decompositions(table())
                exported = torch.onnx.export(
                    program, dynamo=True, input_names=names[0], output_names=names[1], verbose=False
                )
        except Exception as error:
            # The exporter raises many kinds of errors, and the network may be anything.
            raise ExportError(f"the model cannot be written as ONNX: {first_line(error)}") from error
        assert exported is not None
        model = exported.model
        for values, ports in ((model.graph.inputs, serving.inputs), (model.graph.outputs, serving.outputs)):
            for value, port in zip(values, ports, strict=True):
                value.doc_string = printable(port.text)
        for holder in (model.graph, *model.functions.values()):
            # Source lines of each node, with paths on this machine.
            for node in holder:
                node.metadata_props.clear()
        model.metadata_props.update(metadata)
        exported.save(path, external_data=False)

    def runner(self, path: Path) -> Runner:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_inputs()]
        return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))


class Torch:
    """An exported program of PyTorch, which needs torch and none of this project's code."""

    file = "model.pt2"

    def require(self) -> None:
        """No-op: it needs no package beyond the project's own."""

    def write(self, program: ExportedProgram, serving: Any, metadata: Mapping[str, str], path: Path) -> None:
        with warnings.catch_warnings():
            # A false alarm for channels-last weights; the written file is checked afterwards.
            warnings.filterwarnings("ignore", "No complete tensor found in the group")
            with path.open("wb") as file:  # given a path, torch would store the temporary name inside
                torch.export.save(program, file, extra_files={f"{name}.txt": text for name, text in metadata.items()})

    def runner(self, path: Path) -> Runner:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")  # torch 2.11; nothing writes to it
            module = torch.export.load(path).module()

        def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            with torch.inference_mode():
                return [output.numpy() for output in module(*map(torch.from_numpy, inputs))]

        return run


FORMATS: Mapping[str, Format] = {"onnx": Onnx(), "torch": Torch()}
