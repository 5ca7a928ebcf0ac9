"""Several processes train as one with the same batches: on one machine, on two with torchrun, and under SLURM."""

import csv
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.strategies import FSDPStrategy
from tests.harness import EXPERIMENTS, REPOSITORY, command, small

from triptych.results.directory import LOCK, try_lock
from triptych.sharding import check_sharding, patch_sharding

pytestmark = pytest.mark.skipif("housing" not in EXPERIMENTS, reason="the housing panel is not here")

DDP = ("trainer=ddp", "trainer.accelerator=cpu")
TORCHRUN = ("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2", "--master-addr=127.0.0.1")
# 321 training rows in batches of 34, the last of 15: four processes can split neither size evenly.
SHORT = ("data.batch_size=34", "trainer.log_every_n_steps=1", "logger=none")


def options(data_root: Path, *more: str) -> list[str]:
    """Options of an MLP without batch norm or dropout, so that a step depends on its batch alone; no `trainer=cpu`."""
    given = small("housing", data_root, "model=mlp", "model.norm=layer", *SHORT, *more)
    return [option for option in given if option != "trainer=cpu"]


def start(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start Python with these arguments in the folder ``cwd``."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src")} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes: subprocess.Popen[str]) -> list[str]:
    """Wait for all to exit with code 0; return the combined stdout and stderr of each."""
    said = ["".join(process.communicate(timeout=240)) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said


def free_port() -> int:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return there.getsockname()[1]


def only_run(folder: Path) -> Path:
    """Return the only run directory below ``folder``, and check that `latest` points to it."""
    (directory,) = [path for path in (folder / "logs/housing").iterdir() if path.name != "latest"]
    assert (folder / "logs/housing/latest").resolve() == directory.resolve()
    return directory


@pytest.fixture(scope="module")
def alone(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    assert command(*options(data_root, "trainer=cpu"), cwd=folder).returncode == 0
    return only_run(folder)


@pytest.fixture(scope="module")
def two(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run directory and output of two processes that Lightning starts."""
    folder = tmp_path_factory.mktemp("two")
    (said,) = ended(start(str(REPOSITORY / "train.py"), *options(data_root, *DDP), cwd=folder))
    return only_run(folder), said


@pytest.fixture(scope="module")
def torchrun(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run directory and output of torchrun with two nodes of two processes, both on this machine."""
    folder = tmp_path_factory.mktemp("torchrun")
    train = (str(REPOSITORY / "train.py"), *options(data_root, *DDP, "trainer.num_nodes=2"))
    port = f"--master-port={free_port()}"
    nodes = [start(*TORCHRUN, f"--node-rank={node}", port, *train, cwd=folder) for node in range(2)]
    said = "".join(ended(*nodes))
    return only_run(folder), said


def tasks_of_slurm(*options: str, cwd: Path) -> list[subprocess.Popen[str]]:
    """Start two `train.py` with the environment variables that srun sets."""
    shared = {"SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    shared |= {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(free_port())}
    tasks = [{"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)} for task in range(2)]
    return [start(str(REPOSITORY / "train.py"), *options, cwd=cwd, env=shared | task) for task in tasks]


@pytest.fixture(scope="module")
def slurm(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run directory and output of two SLURM tasks."""
    folder = tmp_path_factory.mktemp("slurm")
    said = "".join(ended(*tasks_of_slurm(*options(data_root, *DDP), cwd=folder)))
    return only_run(folder), said


STARTED = ["two", "torchrun", "slurm"]


def history(directory: Path) -> list[dict[str, float]]:
    with (directory / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize("started", STARTED)
def test_several_processes_train_as_one(started: str, alone: Path, request: pytest.FixtureRequest) -> None:
    directory, _ = request.getfixturevalue(started)
    one, several = history(alone), history(directory)
    assert len(one) == len(several) > 20  # the loss of each step, and the epochs
    for before, after in zip(one, several, strict=True):
        assert after == pytest.approx(before, rel=1e-5, abs=1e-5)
    first, last = (
        torch.load(path / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for path in (alone, directory)
    )
    assert first.keys() == last.keys()
    for name, weights in first.items():
        torch.testing.assert_close(last[name], weights, rtol=0, atol=1e-5)
    tested, expected = (json.loads((path / "metrics.json").read_text())["test"] for path in (directory, alone))
    assert tested == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("started", STARTED)
def test_a_run_has_one_directory_and_one_log(started: str, request: pytest.FixtureRequest) -> None:
    directory, said = request.getfixturevalue(started)
    assert said.count("epoch 1/2") == said.count("reading the data") == 1
    assert (directory / "train.log").read_text().count("epoch 1/2") == 1
    assert "Initializing distributed" not in said
    expected = {".hydra", "train.log", "metrics.csv", "metrics.json", "checkpoints", "DONE"}
    assert {path.name for path in directory.iterdir()} == expected
    overrides = (directory / ".hydra/overrides.yaml").read_text()
    assert "trainer=ddp" in overrides
    assert "hydra" not in overrides


@pytest.mark.slow
@pytest.mark.parametrize("why", ["in use", "used folder"])
def test_all_processes_exit_when_the_first_is_refused(why: str, alone: Path, data_root: Path, tmp_path: Path) -> None:
    again = [f"resume={alone}", "trainer.max_epochs=3"]
    asked = again if why == "in use" else options(data_root, *DDP, f"hydra.run.dir={alone}")
    with try_lock(alone / LOCK) if why == "in use" else nullcontext():
        tasks = tasks_of_slurm(*asked, cwd=tmp_path)
        said = "".join("".join(task.communicate(timeout=60)) for task in tasks)
    assert [task.returncode for task in tasks] == [2, 2]
    message = f"error: another process is training {alone}" if why == "in use" else "there are runs in that folder"
    assert said.count("\n") == said.count(message) == 1


@pytest.mark.slow
def test_one_signal_stops_all_processes_and_the_run_resumes(data_root: Path, tmp_path: Path) -> None:
    """Ctrl-C within an epoch reaches only the first process; Lightning passes it on as SIGTERM."""
    given = options(data_root, *DDP, "data.batch_size=2", "trainer.max_epochs=1000")
    running = start(str(REPOSITORY / "train.py"), *given, cwd=tmp_path)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("logs/housing/2*/checkpoints/last.ckpt")):
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    said, errors = running.communicate(timeout=60)
    assert running.returncode == 130, said + errors
    assert said.count("Continue from") == 1
    assert "Traceback" not in errors
    directory = only_run(tmp_path)
    saved = torch.load(directory / "checkpoints/last.ckpt", weights_only=True)
    length = saved["epoch"] + 1
    again = command(f"resume={directory}", f"trainer.max_epochs={length}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    metrics = json.loads((directory / "metrics.json").read_text())
    assert metrics["resumed"] == [saved["global_step"]]
    # Complete epochs of the 321 rows, without the last batch of one row.
    assert metrics["steps"] == 160 * length


def last_of(folder: Path) -> dict[str, Any]:
    (directory,) = folder.glob("logs/*/2*")
    return json.loads((directory / "metrics.json").read_text())


PLAIN = ("model.norm=layer", "data.augment=none", "trainer.precision=32-true", *SHORT)


@pytest.mark.slow
@pytest.mark.parametrize(
    "drawn",
    [
        ("housing", "model=mlp", "model.norm=layer", *SHORT, "data.batch_size=full", "trainer.max_epochs=8"),
        ("pneumonia", "model=cnn", "model.class_weights=none", "data.sampler=balanced", *PLAIN),
    ],
    ids=["all at once", "balanced"],
)
def test_processes_share_batches_of_every_sampler(drawn: tuple[str, ...], data_root: Path, tmp_path: Path):
    experiment, *more = drawn
    if experiment not in EXPERIMENTS:
        pytest.skip(f"the {experiment} panel is not here")
    given = [option for option in small(experiment, data_root, *more) if option != "trainer=cpu"]
    found = []
    for name, trainer in (("alone", ("trainer=cpu",)), ("two", DDP)):
        folder = tmp_path / name
        folder.mkdir()
        done = command(*given, *trainer, cwd=folder)
        assert done.returncode == 0, done.stderr
        found.append(last_of(folder))
    alone, shared = found
    assert shared["steps"] == alone["steps"] > 1
    assert shared["best"] == pytest.approx(alone["best"], rel=1e-4)
    assert shared["test"] == pytest.approx(alone["test"], rel=1e-4)


@pytest.mark.slow
def test_single_process_keeps_its_threads(data_root: Path, tmp_path: Path) -> None:
    code = """
import os, pathlib, sys
os.environ.pop("OMP_NUM_THREADS", None)  # where it is set Lightning leaves it
import torch
from tests.harness import train
train(pathlib.Path("run"), *sys.argv[1:])
print("threads:", torch.get_num_threads())
"""
    given = options(data_root, *DDP, "trainer.devices=1", "trainer.max_epochs=1", "threads=1")
    (said,) = ended(start("-c", code, *given, cwd=tmp_path, env={"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}))
    assert "threads: 1" in said


@pytest.mark.slow
def test_each_job_of_a_sweep_starts_its_own_processes(alone: Path, data_root: Path, tmp_path: Path):
    given = [*options(data_root, *DDP), "seed=0,1"]
    done = command("-m", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = sorted(path.parent for path in tmp_path.glob("logs/sweeps/*/*/DONE"))
    assert [job.name for job in jobs] == ["0", "1"]
    of_seed = {metrics["seed"]: metrics for job in jobs if (metrics := json.loads((job / "metrics.json").read_text()))}
    expected = json.loads((alone / "metrics.json").read_text())
    assert of_seed[expected["seed"]]["test"] == pytest.approx(expected["test"], rel=1e-5)
    assert of_seed[0]["test"] != of_seed[1]["test"]


def test_sharding_needs_gpus(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.harness import train

    from triptych.errors import UserError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"strategy=fsdp: sharding needs GPUs.*trainer=ddp"):
        train(tmp_path / "run", *options(data_root, "trainer=fsdp"))
    assert not list(tmp_path.glob("run/checkpoints/*"))


# Patches that let FSDP run on a CPU: they disable the checks of the project and of Lightning, name the device to FSDP,
# and clone what it gathers for a checkpoint: FSDP copies that from a GPU only, so that on a CPU each optimizer state
# would be overwritten by the next. Python runs this file at startup, also in the processes that Lightning starts.
CPU_AS_GPU = """
import torch
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp._flat_param import FlatParamHandle
import triptych.trainer

check, init, views = (
    _AcceleratorConnector._check_strategy_and_fallback,
    FullyShardedDataParallel.__init__,
    FlatParamHandle._get_unflat_views_aligned,
)
cpu = {"device_id": torch.device("cpu")}
triptych.trainer.check_devices = lambda arguments: None
_AcceleratorConnector._check_strategy_and_fallback = lambda self: self._strategy_flag == "fsdp" or check(self)
FullyShardedDataParallel.__init__ = lambda self, *given, **more: init(self, *given, **more | cpu)
FlatParamHandle._get_unflat_views_aligned = lambda self, *given: views(self, *(tensor.clone() for tensor in given))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        ("housing", "model=mlp", "trainer.gradient_clip_val=0.1", "callbacks.weights.every_n_epochs=1"),
        # A small learning rate: kernels round differently for each memory layout, and large steps amplify that.
        ("pneumonia", "model=cnn", "optimizer=sgd", "optimizer.lr=0.001", "data.augment=none"),
    ],
    ids=lambda given: given[0],
)
def test_sharded_network_trains_draws_and_tests_as_unsharded(
    given: tuple[str, ...], data_root: Path, tmp_path: Path
) -> None:
    if given[0] not in EXPERIMENTS:
        pytest.skip(f"the {given[0]} panel is not here")
    drawn = small(given[0], data_root, *given[1:], pictures=True)
    options = [option for option in drawn if option != "trainer=cpu"]
    options += ["trainer.accelerator=cpu", "trainer.devices=2", "model.norm=layer", "logger=none", "hydra.run.dir=run"]
    (tmp_path / "sitecustomize.py").write_text(CPU_AS_GPU)
    patched = {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(REPOSITORY / "src")))}
    # With bf16-mixed only autocast may round, and FSDP's is for GPUs, so that on a CPU results equal those of 32-true.
    kinds = {"ddp": ("32-true", {}), "fsdp": ("bf16-mixed", patched)}
    found = {}
    for kind, (precision, env) in kinds.items():
        folder = tmp_path / kind
        folder.mkdir()
        trainer = (f"trainer={kind}", f"trainer.precision={precision}")
        ended(start(str(REPOSITORY / "train.py"), *options, *trainer, cwd=folder, env=env))
        first = json.loads((folder / "run/metrics.json").read_text())
        saved = torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)
        measured = [first]
        if given[0] == "housing":
            ended(start(str(REPOSITORY / "train.py"), "resume=run", "trainer.max_epochs=3", cwd=folder, env=env))
            measured.append(json.loads((folder / "run/metrics.json").read_text()))
        figures = {path.name for path in (folder / "run/figures").iterdir()}
        found[kind] = measured, figures, saved["state_dict"]
    whole, sharded = found["ddp"], found["fsdp"]
    for before, after in zip(whole[0], sharded[0], strict=True):
        assert after["steps"] == before["steps"]
        assert after["best"] == pytest.approx(before["best"], rel=1e-4)
        assert after["test"] == pytest.approx(before["test"], rel=1e-4)
    assert sharded[1] == whole[1]
    assert len({name for name in sharded[1] if name.startswith("test-")}) >= 4
    assert sharded[2].keys() == whole[2].keys()
    for name, weights in whole[2].items():
        torch.testing.assert_close(sharded[2][name], weights, rtol=0, atol=1e-5)


def test_muon_and_weight_averaging_refuse_sharding() -> None:
    alone: Any = SimpleNamespace(world_size=1, callbacks=[])
    both: Any = SimpleNamespace(world_size=2, callbacks=[])
    check_sharding(alone, "triptych.optimizers.Muon")
    check_sharding(both, "torch.optim.AdamW")
    with pytest.raises(ValueError, match=r"optimizer=muon looks at whole matrices.*optimizer=adamw"):
        check_sharding(both, "triptych.optimizers.Muon")
    both.callbacks.append(EMAWeightAveraging())
    with pytest.raises(ValueError, match=r"averaging weights needs whole ones.*trainer=ddp"):
        check_sharding(both, "torch.optim.AdamW")


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_sharded_network_loads_no_code_from_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "callbacks": Attack(tmp_path / "ran")}, tmp_path / "best.ckpt")
    strategy = FSDPStrategy()
    strategy.connect(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    patch_sharding(strategy)
    with pytest.raises(pickle.UnpicklingError):
        strategy.load_checkpoint(tmp_path / "best.ckpt", weights_only=True)
    assert not (tmp_path / "ran").exists()


def test_several_machines_need_torchrun_or_srun(data_root: Path, tmp_path: Path) -> None:
    from tests.harness import train

    from triptych.errors import UserError

    with pytest.raises(UserError, match=r"num_nodes=2: .* torchrun or srun"):
        train(tmp_path / "run", *options(data_root, *DDP, "trainer.num_nodes=2"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_sharded_network_saves_an_unsharded_checkpoint(data_root: Path, tmp_path: Path) -> None:
    given = options(data_root, "trainer=fsdp", "trainer.devices=1", "callbacks.analysis.enabled=true")
    done = command(*given, f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    saved: dict[str, Any] = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 2 * 10
    assert all(type(weights) is torch.Tensor for weights in saved["state_dict"].values())
    assert any(name.startswith("network.") for name in saved["state_dict"])
