"""The architecture, checked on the sources: which part may import which, and how long a file may be."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from statistics import median

import pytest

import triptych
from triptych.declared import undocumented

SOURCE = Path(triptych.__file__).parent
REPOSITORY = SOURCE.parents[1]
NAME = SOURCE.name


def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {dotted(path): ast.parse(path.read_text("utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
FILES = sorted([*SOURCE.parent.rglob("*.py"), *(REPOSITORY / "benchmarks").rglob("*.py"), REPOSITORY / "train.py"])
PACKAGES = {dotted(path.parent / "__init__.py") for path in SOURCE.rglob("__init__.py")}


def imports(tree: ast.Module, inside_functions: bool = True) -> Iterator[str]:
    """Yield the modules that a file imports: for ``from a import b``, a.b if that is a module, else a."""
    nodes = list(ast.walk(tree) if inside_functions else _top_level(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in TREES else str(node.module)


def _top_level(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run on import: all except function bodies and ``if TYPE_CHECKING`` blocks."""
    for node in ast.iter_child_nodes(tree):
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_for_types:
            yield node
            yield from _top_level(node)


def imported_by(part: str, inside_functions: bool = True) -> dict[str, set[str]]:
    """Return what each module of a part (``data``, ``config``) imports."""
    whole = f"{NAME}.{part}"
    modules = [name for name in TREES if name == whole or name.startswith(f"{whole}.")]
    assert modules, part
    return {module: set(imports(TREES[module], inside_functions)) for module in modules}


def parts(modules: set[str]) -> set[str]:
    """Return the parts of this package among the modules, such as {"data", "files"}."""
    return {module.split(".")[1] for module in modules if module.startswith(f"{NAME}.")}


def packages(modules: set[str]) -> set[str]:
    """Return the packages, other than this one, among the modules."""
    return {module.partition(".")[0] for module in modules} - {NAME}


@pytest.mark.parametrize(
    ("part", "others"),
    [
        ("networks", {"networks"}),
        ("data", {"data", "files", "hint"}),
        ("models", {"models", "networks", "build"}),
        ("callbacks", {"callbacks", "results"}),
        ("results", {"results", "build", "dotted", "files", "hint", "terminal", "trainer", "precision"}),
        (
            "trainer",
            {
                *("build", "checkpoint_io", "device", "precision", "processes"),
                *("direct_steps", "progress_bar", "sharding"),
            },
        ),
        ("direct_steps", set()),
        ("checks", {"data", "hint", "models"}),
        ("loggers", {"build", "dotted"}),
        ("progress_bar", set()),
        ("sharding", set()),
        ("precision", {"device"}),
        ("device", set()),
        ("errors", set()),
        ("checkpoint_io", set()),
        ("build", set()),
        ("optimizers", set()),
        ("files", set()),
        ("processes", set()),
        ("dotted", set()),
        ("declared", {"dotted", "hint"}),
        ("hint", set()),
        ("composed", {"declared", "dotted", "hint"}),
        ("config", {"composed", "declared", "dotted", "hint"}),
        ("command_line", {"config"}),
        ("output_folder", {"config", "processes", "results", "terminal"}),
        ("resume", {"composed", "config", "declared", "hint", "processes", "results"}),
        ("reproduce", {"dotted", "results"}),
        ("sweeps", {"composed", "config", "dotted", "results"}),
    ],
)
def test_each_part_imports_only_the_parts_below_it(part: str, others: set[str]):
    for module, imported in imported_by(part).items():
        assert parts(imported) <= others, module


def test_run_and_cli_are_not_imported_by_other_modules():
    allowed = {f"{NAME}.run", f"{NAME}.cli"}
    for module, tree in TREES.items():
        # A job wraps a run and handles how it ends; train.py and the launcher start it.
        if module not in {*allowed, f"{NAME}.job"}:
            assert not allowed & set(imports(tree)), module


def test_networks_import_only_torch():
    known = {"torch", "torchvision", "collections", "functools", "itertools", "math", "typing"}
    for module, imported in imported_by("networks").items():
        assert packages(imported) <= known, module


HEAVY = {"torch", "torchvision", "torchmetrics", "lightning", "numpy", "pandas", "sklearn", "matplotlib", "PIL"}


@pytest.mark.parametrize("start", ["config", "output_folder", "resume", "reproduce", "cli", "results.sweep"])
def test_config_check_needs_no_heavy_imports(start: str):
    seen, left = set(), [f"{NAME}.{start}"]
    while left:
        module = left.pop()
        if module in TREES and module not in seen:
            seen.add(module)
            # Importing a module imports its parent packages.
            left += [module.rpartition(".")[0], *imports(TREES[module], inside_functions=False)]
            assert not packages(set(imports(TREES[module], inside_functions=False))) & HEAVY, module


@pytest.mark.parametrize("path", sorted((SOURCE.parent / "hydra_plugins").rglob("*.py")), ids=lambda path: path.stem)
def test_hydra_plugins_import_nothing_heavy(path: Path):
    if path.stem == "_preload":
        return  # for the fork server of the jobs; Hydra skips modules with a leading underscore
    found = set(imports(ast.parse(path.read_text("utf-8")), inside_functions=False))
    assert not packages(found) & {*HEAVY, "optuna", "filelock", "joblib", "scipy"}, path


def test_imported_packages_are_declared_dependencies():
    """A package that is only installed as a dependency of another may disappear."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    declared = chain(project["dependencies"], *project["optional-dependencies"].values())
    names = {re.split(r"[^\w.-]", line)[0] for line in declared}
    providers = packages_distributions()
    for path in SOURCE.parent.rglob("*.py"):
        imported = packages(set(imports(ast.parse(path.read_text("utf-8"))))) - sys.stdlib_module_names
        for package in imported - {"hydra_plugins", "__main__"}:
            # A package that is not installed belongs to an extra; its distribution has the same name.
            found = {name.lower() for name in providers.get(package, [package])}
            assert names & found, f"{path.name} imports {package}"


def test_there_is_no_import_cycle():
    # Imports inside functions count: moving one there hides a cycle but does not remove it.
    graph = {module: set(imports(tree)) & TREES.keys() - {module} for module, tree in TREES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_init_files_do_not_reexport(package: str):
    """A re-exported class would have two dotted paths."""
    tree = TREES[package]
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported <= used
    assert not any(isinstance(node, ast.Assign) and "__all__" in ast.dump(node) for node in tree.body)


def length(path: Path) -> int:
    """Count the non-blank lines."""
    return sum(bool(line.strip()) for line in path.read_text("utf-8").splitlines())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_has_a_docstring_and_at_most_300_lines(path: Path):
    text = path.read_text("utf-8")
    assert ast.get_docstring(ast.parse(text)), "a module begins with a docstring"
    assert length(path) <= 300


def test_most_files_are_short():
    assert median(map(length, FILES)) < 150


def test_no_module_has_a_meaningless_name():
    names = set(chain.from_iterable(module.split(".") for module in TREES))
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "registry", "registries"}


def test_every_key_of_the_config_is_documented():
    assert undocumented(REPOSITORY / "conf") == []


def test_targets_of_the_config_are_named_where_they_are_defined():
    import yaml

    from triptych.build import resolve

    def targets(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["_target_"]] if "_target_" in value else [])
            yield from chain.from_iterable(map(targets, value.values()))

    conf = REPOSITORY / "conf"
    # Hydra instantiates sweepers and launchers itself, and only those of hydra_plugins.
    paths = [path for path in conf.rglob("*.yaml") if not path.is_relative_to(conf / "hydra")]
    trees = {path: yaml.safe_load(path.read_text("utf-8")) for path in paths}
    found = {target for path, tree in trees.items() if path.name != "config.yaml" for target in targets(tree)}
    assert len(found) > 10
    for target in found:
        made = resolve(target)
        if target.startswith(f"{NAME}."):
            assert target == f"{made.__module__}.{made.__qualname__}"
