"""Sweeps on SLURM and Ray: jobs are submitted, die and resume, with the same result as on one machine."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests import fake_slurm
from tests.harness import CONF, FASTEST, REPOSITORY, cheapest

from hydra_plugins.triptych import _remote
from hydra_plugins.triptych._job import Job
from hydra_plugins.triptych.ray_launcher import RayLauncher
from hydra_plugins.triptych.submitit_launcher import SubmititLauncher
from triptych.config import ConfigError, check

Extra = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def with_extra(tmp_path_factory: pytest.TempPathFactory) -> Extra:
    """A function from an extra to an environment that has it, installed from its lock file if missing."""

    def install(extra: str) -> dict[str, str]:
        paths = [str(REPOSITORY / "src")]
        if find_spec(extra) is None:
            folder = tmp_path_factory.mktemp(extra)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            ended = subprocess.run(
                [*pip, "--target", folder, "-r", REPOSITORY / f"locks/{extra}.txt"],
                capture_output=True,
                text=True,
                check=False,
            )
            if ended.returncode and "Retrying" in ended.stderr:
                pytest.skip(f"{extra} is not installed, and the package index cannot be reached")
            assert ended.returncode == 0, ended.stderr
            paths.append(str(folder))
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}

    return install


def start(environment: dict[str, str], cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, REPOSITORY / "train.py", "-m", *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(what: Callable[[], object], sweep: subprocess.Popen[str]) -> None:
    while not what():
        if sweep.poll() is not None:
            pytest.fail(f"the sweep ended first: {sweep.communicate()}")
        time.sleep(0.05)


def resumed(job: Path) -> list[int]:
    """The steps from which a finished job was resumed."""
    assert (job / "DONE").exists(), job
    return json.loads((job / "metrics.json").read_text())["resumed"]


def writers(job: Path) -> set[int]:
    """Ids of the processes that trained a job, from the names of TensorBoard's files."""
    return {int(path.name.split(".")[-2]) for path in job.rglob("events*")}


LONG = ["callbacks.early_stopping=null", "trainer.max_epochs=60"]


def remote_job(monkeypatch: pytest.MonkeyPatch, directory: Path, recorded: str, *planned: str) -> int | None:
    """Run a job with four threads in a directory where one has begun; returns the exit code of its process.

    Instead of training, the job records its state and threads in its directory.
    """

    def run_or_resume(job: Job, *_: object) -> int:
        (job.directory / "ran").write_text(f"{job.status} {job.threads}")
        return 0

    monkeypatch.setattr(_remote, "run_or_resume", run_or_resume)
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra/overrides.yaml").write_text(recorded)
    anything: Any = None
    job = Job(0, planned, directory, "new", threads=4)
    sent = _remote.RemoteJob(job, anything, anything, anything, version_base="1.3")
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(sent.run()))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("recorded", ["[seed=0]", "[seed=0, threads=1]", "[seed=0, threads=4]"])
def test_a_different_number_of_threads_is_still_the_same_job(
    recorded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert remote_job(monkeypatch, tmp_path / "0", recorded, "seed=0") == 0
    assert (tmp_path / "0/ran").read_text() == "begun 4"
    assert not (tmp_path / "0/error.txt").exists()


@pytest.mark.parametrize("planned", [["seed=0", "threads=4"], ["seed=1"]])
def test_a_job_other_than_the_begun_one_is_refused(
    planned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert remote_job(monkeypatch, tmp_path / "0", "[seed=0, threads=1]", *planned) == 0
    assert not (tmp_path / "0/ran").exists()
    assert "is the directory of another job" in (tmp_path / "0/error.txt").read_text().splitlines()[0]


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "launcher"), [("submitit", "submitit_local"), ("ray", "ray")])
def test_a_local_sweep_can_be_resumed_by_another_launcher(
    extra: str, launcher: str, with_extra: Extra, data_root: Path, tmp_path: Path
) -> None:
    environment, sweep = with_extra(extra), tmp_path / "sweep"
    options = [line for line in cheapest(data_root, "trainer.max_epochs=1") if not line.startswith("threads=")]
    begun = start(environment, tmp_path, *options, "seed=0,1", f"hydra.sweep.dir={sweep}")
    _, errors = begun.communicate(timeout=120)
    assert begun.returncode == 0, errors
    # As if killed before the first job finished; the directory of the second cannot be made.
    (sweep / "0/DONE").unlink()
    (sweep / "0/metrics.json").unlink()
    shutil.rmtree(sweep / "1")
    (sweep / "1").touch()
    again = start(environment, tmp_path, f"resume={sweep}", f"hydra/launcher={launcher}")
    output, errors = again.communicate(timeout=240)
    assert again.returncode == 1, errors
    assert (sweep / "0/DONE").exists()
    assert "1 run: 1 done" in output
    assert f"job 1 failed: FileExistsError: [Errno 17] File exists: '{sweep / '1'}'" in errors
    assert "job 1 failed, which the report cannot tell: FileExistsError" in errors


@pytest.fixture
def slurm(with_extra: Extra, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """The folder of a fake SLURM that runs jobs on this machine, and an environment with its commands."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    environment = with_extra("submitit")
    path = f"{fake_slurm.install(folder)}{os.pathsep}{environment['PATH']}"
    return folder, environment | {"PATH": path, "FAKE_SLURM": str(folder)}


@pytest.mark.slow
def test_a_refusal_by_slurm_is_reported(slurm: tuple[Path, dict[str, str]], data_root: Path, tmp_path: Path) -> None:
    given = [
        *cheapest(data_root),
        "seed=0,1",
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.partition=nowhere",
    ]
    driver = start(slurm[1], tmp_path, *given)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 2
    assert "error: the cluster did not accept the jobs: sbatch: error: invalid partition specified: nowhere" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_slurm_sweep_resumes_after_time_limits_and_kills(
    slurm: tuple[Path, dict[str, str]], data_root: Path, tmp_path: Path
) -> None:
    (cluster, environment), sweep = slurm, tmp_path / "sweep"
    asked = ["partition=debug", "gpus_per_node=2", "cpus_per_task=3", "mem_gb=5", "timeout_min=60"]
    asked += ["additional_parameters={account: lab}", "setup=['export SET_UP=1']"]
    driver = start(
        environment,
        tmp_path,
        *cheapest(data_root, *LONG, "mode=min", "monitor=val/loss,val/nothing,train/loss", f"hydra.sweep.dir={sweep}"),
        "hydra/launcher=submitit_slurm",
        *(f"hydra.launcher.{setting}" for setting in asked),
    )
    # The first job nears its time limit; the last one is killed, and then the process that runs the sweep.
    processes = {}
    for job, sent in (("0", signal.SIGUSR2), ("2", signal.SIGKILL)):
        wait_for((sweep / job / "checkpoints/last.ckpt").exists, driver)
        processes[job] = int((cluster / f"100_{job}.pid").read_text())
        os.kill(processes[job], sent)
    wait_for((sweep / "1/error.txt").exists, driver)
    wait_for((sweep / "0/.hydra/resume-1").exists, driver)
    driver.kill()
    driver.communicate()

    script = (cluster / "100.sh").read_text()
    for option in ("partition=debug", "gpus-per-node=2", "cpus-per-task=3", "mem=5GB", "time=60", "account=lab"):
        assert f"#SBATCH --{option}\n" in script
    assert "#SBATCH --array=0-2%3" in script
    assert "\nexport SET_UP=1\n" in script

    again = start(environment, tmp_path, f"resume={sweep}", "hydra/launcher=submitit_local")
    output, errors = again.communicate(timeout=240)
    assert again.returncode == 1, errors
    assert "job 1 failed: " in errors
    # SLURM itself requeued the first job, and nothing else resumed it meanwhile.
    assert len(resumed(sweep / "0")) == len(resumed(sweep / "2")) == 1
    assert writers(sweep / "0") == {processes["0"], int((cluster / "100_0.pid").read_text())}
    assert len(writers(sweep / "0")) == len(writers(sweep / "2")) == 2
    assert sorted(path.parent.name for path in sweep.glob("*/.hydra")) == ["0", "1", "2"]
    assert "2 done, 1 failed" in output
    assert (sweep / "report.md").exists()


@pytest.fixture
def ray_cluster(with_extra: Extra, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A Ray cluster of two nodes that ends with the test, and an environment with Ray."""
    environment = with_extra("ray") | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    nodes = subprocess.Popen(
        [sys.executable, REPOSITORY / "tests/fake_ray_cluster.py"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield nodes, environment
    nodes.communicate("\n\n", timeout=60)


@pytest.mark.slow
def test_a_ray_sweep_resumes_after_a_node_died(
    ray_cluster: tuple[subprocess.Popen[str], dict[str, str]], data_root: Path, tmp_path: Path
) -> None:
    nodes, environment = ray_cluster
    assert nodes.stdin is not None
    assert nodes.stdout is not None
    address = next(line.split()[1] for line in nodes.stdout if line.startswith("address "))
    sweep = tmp_path / "sweep"
    driver = start(
        environment,
        tmp_path,
        *cheapest(data_root, *LONG, "seed=0,1,2", f"hydra.sweep.dir={sweep}"),
        "hydra/launcher=ray",
        f"hydra.launcher.address={address}",
    )
    # One CPU per node: one of the two jobs is on the node that is killed.
    wait_for(lambda: len([*sweep.glob("*/checkpoints/last.ckpt")]) >= 2, driver)
    nodes.stdin.write("\n")
    nodes.stdin.flush()
    output, errors = driver.communicate(timeout=240)
    assert driver.returncode == 0, errors
    assert "3 done" in output
    assert sorted(len(resumed(sweep / job)) for job in "012") == [0, 0, 1]
    assert sorted(len(writers(sweep / job)) for job in "012") == [1, 1, 2]
    assert sorted(path.parent.name for path in sweep.glob("*/.hydra")) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("package", "launcher"),
    [
        ("submitit", SubmititLauncher("slurm", array_parallelism=1, timeout_min=1)),
        ("ray", RayLauncher(address=None, num_cpus=1, num_gpus=0, max_retries=0)),
    ],
)
def test_a_missing_extra_is_named_with_the_install_command(
    package: str, launcher: SubmititLauncher | RayLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=f"make setup EXTRAS={package}`"):
        launcher.concurrency()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("hydra.launcher.num_cpus=x", "num_cpus=x: expected int>=1 .*ray.yaml"),
        ("hydra.launcher.num_cpu=2", "did you mean hydra.launcher.num_cpus?"),
        ("hydra.launcher.address=3", "address=3: expected null or str"),
    ],
)
def test_the_settings_of_a_launcher_are_checked(setting: str, message: str) -> None:
    given = ["-m", f"experiment={FASTEST}", "seed=0,1", "hydra/launcher=ray", "hydra.launcher.num_gpus=0.5"]
    check(given, CONF)
    with pytest.raises(ConfigError, match=message):
        check([*given, setting], CONF)
