"""A fake SLURM on this machine, as far as submitit needs one; ``install`` puts its commands into a folder for PATH.

The folder ``FAKE_SLURM`` keeps the scripts, and per job ``ID.pid`` (of srun), ``ID.state`` and ``ID.requeue``.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "scancel", "scontrol", "sacct")


def install(folder: Path) -> Path:
    """Write the commands into ``folder``; return it."""
    for name in COMMANDS:
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__)}" {name} "$@"\n')
        command.chmod(0o755)
    return folder


def sbatch(state: Path, script: str) -> None:
    text = Path(script).read_text()
    if "--partition=nowhere" in text:
        sys.exit("sbatch: error: invalid partition specified: nowhere")
    number = 100 + len([*state.glob("*.sh")])
    (state / f"{number}.sh").write_text(text)
    array = re.search(r"--array=0-(\d+)", text)
    for task in [f"{number}_{task}" for task in range(1 + int(array[1]))] if array else [str(number)]:
        (state / f"{task}.state").write_text("RUNNING")
        subprocess.Popen(
            [sys.executable, __file__, "node", task, str(state / f"{number}.sh")],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    print(f"Submitted batch job {number}")


def node(state: Path, job: str, script: str) -> None:
    """Run the script, and run it again for as long as it is requeued."""
    main, _, task = job.partition("_")
    environment = os.environ | {"SLURM_JOB_ID": main, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "FAKE_JOB": job}
    if task:
        environment |= {"SLURM_ARRAY_JOB_ID": main, "SLURM_ARRAY_TASK_ID": task}
    code = None
    while code is None or (state / f"{job}.requeue").exists():
        (state / f"{job}.requeue").unlink(missing_ok=True)
        code = subprocess.run(["bash", script], env=environment, check=False).returncode
    (state / f"{job}.state").write_text("FAILED" if code else "COMPLETED")


def srun(state: Path, *arguments: str) -> None:
    job = os.environ["FAKE_JOB"]
    (state / f"{job}.pid").write_text(str(os.getpid()))
    main, _, task = job.partition("_")
    given = list(arguments)
    for option, stream in (("--output", 1), ("--error", 2)):
        path = given[given.index(option) + 1]
        for pattern, value in (("%A", main), ("%a", task), ("%j", main), ("%t", "0")):
            path = path.replace(pattern, value)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    command = given[given.index("--error") + 2 :]
    os.execvp(command[0], command)


def scancel(state: Path, job: str) -> None:
    os.kill(int((state / f"{job}.pid").read_text()), 15)


def scontrol(state: Path, action: str, job: str) -> None:
    assert action == "requeue"
    (state / f"{job}.requeue").touch()


def sacct(state: Path, *_: str) -> None:
    print("JobID|State|NodeList")
    for path in state.glob("*.state"):
        print(f"{path.stem}|{path.read_text()}|here")


if __name__ == "__main__":
    {**{name: globals()[name] for name in COMMANDS}, "node": node}[sys.argv[1]](
        Path(os.environ["FAKE_SLURM"]), *sys.argv[2:]
    )
