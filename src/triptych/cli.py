"""Command line for finished runs and data: triptych evaluate | predict | export | report | reproduce | data.

Nothing heavy is imported before a command is chosen, so that --help and argument errors respond at once.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from triptych.dotted import quote
from triptych.imports import without_collector
from triptych.terminal import harmless

TOLERANCE = 1e-6
"""Default relative tolerance: the same kind of machine agrees to the last bit; another may sum in another order."""
RUN_HELP = "a run directory, or `latest` for the newest of any experiment"


def main(arguments: list[str] | None = None) -> None:
    """Entry point; exit codes: 0 success, 1 something was skipped or a check failed, 2 user error, 130 Ctrl-C."""
    parser = _parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help(sys.stderr)
        sys.exit(2)
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:
        # The reader has closed the pipe, as `| head` does; Python would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError) as error:
        print(f"error: {harmless(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("triptych", description="What one does with finished runs and with data.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    evaluate = commands.add_parser("evaluate", help="measure a run's best checkpoint on its test split again")
    evaluate.add_argument("run", metavar="RUN", help=RUN_HELP)
    evaluate.add_argument("--split", choices=("val", "test"), default="test", help="what to measure on (default: test)")
    evaluate.add_argument("--root", metavar="FOLDER", help="where the data lie now; default: as in training")
    _add_trust(evaluate)
    evaluate.set_defaults(command=_evaluate)

    predict = commands.add_parser("predict", help="run a trained network, on the CPU, on files of your own")
    predict.add_argument("run", metavar="RUN", help=RUN_HELP)
    predict.add_argument("input", metavar="INPUT", type=Path, help="page, folder of pages or X-rays, or CSV of houses")
    predict.add_argument("--output", metavar="OUT", type=Path, required=True, help="folder for what comes out")
    predict.add_argument(
        "--resume", action="store_true", help="after an interruption: keep what is there, add the rest"
    )
    predict.add_argument("--strict", action="store_true", help="stop at an unreadable input instead of skipping it")
    predict.add_argument("--submission", action="store_true", help="denoise: also write Kaggle's submission.csv")
    predict.add_argument(
        "--tile",
        metavar="SIDE",
        type=_from_zero,
        help="denoise: clean pages with a longer side in tiles of SIDE pixels (default: 1024; 0: never)",
    )
    _add_trust(predict)
    predict.set_defaults(command=_predict)

    export = commands.add_parser("export", help="write a trained network for use without this project")
    export.add_argument("run", metavar="RUN", help=RUN_HELP)
    export.add_argument("--output", metavar="FOLDER", type=Path, help="default: export/ in the run directory")
    export.add_argument("--format", choices=("onnx", "torch"), default="onnx", help="default: onnx")
    export.add_argument("--root", metavar="FOLDER", help="where the data lie now; default: as in training")
    _add_trust(export)
    export.set_defaults(command=_export)

    report = commands.add_parser("report", help="compare runs: a ranking, pictures, the command that repeats each")
    report.add_argument("runs", metavar="SWEEP_OR_RUN", nargs="+", help="sweeps and runs; `latest` is the newest run")
    report.add_argument(
        "--output", metavar="FOLDER", type=Path, help="default: the sweep's own; for any other set of runs a new one"
    )
    report.add_argument(
        "--monitor", metavar="METRIC", help="what ranks the runs, such as test/rmse; default: their own"
    )
    report.add_argument("--mode", choices=("min", "max"), help="which is better, for a metric that is not well known")
    report.add_argument("--mixed", action="store_true", help="rank the runs together even if their data differ")
    report.set_defaults(command=_report)

    reproduce = commands.add_parser("reproduce", help="train a finished run again: do its metrics agree?")
    reproduce.add_argument("run", metavar="RUN", help=RUN_HELP)
    reproduce.add_argument("--root", metavar="FOLDER", help="where the data lie now; default: as in training")
    reproduce.add_argument(
        "--output", metavar="FOLDER", type=Path, help="the new run directory; default: in logs/, as for any run"
    )
    reproduce.add_argument(
        "--tolerance",
        metavar="X",
        type=_tolerance,
        default=TOLERANCE,
        help=f"largest relative difference of numbers that agree (default: {TOLERANCE:g}; 0: the same to the last bit)",
    )
    _add_trust(reproduce)
    reproduce.set_defaults(command=_reproduce)

    data = commands.add_parser("data", help="list, download or make up data sets")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="which data sets there are, and which of them lie here")
    listing.add_argument("--root", metavar="FOLDER", help="default: $TRIPTYCH_DATA, else data/")
    listing.set_defaults(command=_data_list)
    for name, function, text in (
        ("synthesize", _data_synthesize, "write the synthetic stand-in of a data set, in Kaggle's layout"),
        ("download", _data_download, "download a data set from Kaggle"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("name", metavar="NAME", help="a data set of `triptych data list`")
        action.add_argument("--root", metavar="FOLDER", help="default: $TRIPTYCH_DATA, else data/")
        action.set_defaults(command=function)
    return parser


def _from_zero(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0")
    return int(text)


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="a package of your own whose classes the run's config names; may be given again",
    )


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0, below 1")
    return value


def _evaluate(options: argparse.Namespace) -> int:
    with without_collector():
        from triptych.results.evaluate import evaluate

    evaluate(options.run, options.split, options.root, options.trust)
    return 0


def _predict(options: argparse.Namespace) -> int:
    with without_collector():
        from triptych.results.predict import predict

    asked = {"submission": options.submission or None, "tile": options.tile}
    skipped = predict(
        options.run,
        options.input,
        options.output,
        options.trust,
        resume=options.resume,
        strict=options.strict,
        **{name: value for name, value in asked.items() if value is not None},
    )
    for line in skipped:
        print(f"skipped: {harmless(line)}", file=sys.stderr)
    return 1 if skipped else 0


def _export(options: argparse.Namespace) -> int:
    with without_collector():
        from triptych.results.export import export
        from triptych.results.export.errors import ExportError

    try:
        exported = export(options.run, options.output, options.format, options.root, options.trust)
    except ExportError as error:
        print(f"error: {harmless(error)}", file=sys.stderr)
        return 1
    differences = ", ".join(f"{name} {difference:.2g}" for name, difference in exported.differences.items())
    print(f"wrote {exported.path}; largest difference from PyTorch on {exported.samples} inputs: {differences}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from triptych.results.report import report

    written = report(options.runs, options.output, options.monitor, options.mode, options.mixed)
    print(f"\nreport {written.folder / 'report.html'}")
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    from triptych.job import reproduce_run
    from triptych.reproduce import plan_reproduction

    asked = plan_reproduction(options.run, options.root, options.output, options.trust)
    # Lightning starts the other ranks of a distributed run with these arguments.
    given = [*(("--root", options.root) if options.root else ()), *(f"--trust={package}" for package in options.trust)]
    sys.argv[1:] = ["reproduce", str(asked.original.directory), "--output", str(asked.directory), *given]
    return reproduce_run(asked, options.tolerance)


def _data_list(options: argparse.Namespace) -> int:
    with without_collector():
        from triptych.data.catalogue import data_sets
        from triptych.data.sources import Source, data_root

    root = data_root(options.root)
    for name, module in data_sets().items():
        folder = root / module.slug
        there = "synthetic" if Source(folder, "files").is_synthetic else "here" if folder.is_dir() else "not here"
        summary = (sys.modules[module.__module__].__doc__ or "").splitlines()[0]
        print(f"{name:11} {module.task or '-':10} {there:9} {folder}\n{'':32}{summary}")
    return 0


def _data_synthesize(options: argparse.Namespace) -> int:
    with without_collector():
        from triptych.data.catalogue import data_set
        from triptych.data.sources import data_root, write_synthetic
        from triptych.results.output import make_folder

    module = data_set(options.name)
    folder = data_root(options.root) / module.slug
    if folder.exists():
        raise ValueError(f"{folder} exists already: name another folder with --root, or move it away")
    make_folder(folder.parent, "--root")
    write_synthetic(folder, module.synthesize)
    print(f"wrote {folder}; train on it with {shlex.quote(f'data.root={quote(folder.parent)}')} data.source=files")
    return 0


def _data_download(options: argparse.Namespace) -> int:
    with without_collector():
        from triptych.data.catalogue import data_set
        from triptych.data.sources import data_root
        from triptych.results.output import make_folder

    module, root = data_set(options.name), data_root(options.root)
    make_folder(root, "--root")
    print(f"downloaded {module.download(root)}")
    return 0


if __name__ == "__main__":
    main()
