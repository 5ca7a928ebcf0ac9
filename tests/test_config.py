"""The check of the config before anything is imported: what it accepts, and how it words a mistake."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from tests.harness import FASTEST

from triptych.composed import Composer
from triptych.config import ConfigError, check
from triptych.declared import BOUNDED, Declaration, alternatives_in, comments_in, undocumented
from triptych.hint import nearest

REPOSITORY = Path(__file__).parents[1]
FILES = {
    "config.yaml": """
        defaults:
          - _self_
          - data: null
          - model: null
          - optimizer: adam
          - trainer: auto
          - experiment: null
          - study: null
          - debug: null
        monitor: null   # null | str: metric that picks the best epoch
        mode: min       # min | max
        seed: 0         # seeds everything
        name: run       # free text
        extras: {}      # handed on as they are
        study: {}       # what a study asks
        hydra:
          run:
            dir: logs/${hydra:runtime.choices.experiment}
        """,
    "data/_base.yaml": """
        root: null       # null | str: folder of the data
        batch_size: 64   # int | full: rows a step; full is batch gradient descent
        augment: true    # turn and flip
        columns: [a, b]  # columns to read
        share: 0.5       # share of the rows
        """,
    "data/houses.yaml": """
        # Houses.
        defaults: [_base, _self_]
        _target_: houses.Data
        batch_size: 256
        form: ???        # kaggle | statlib
        """,
    "data/pages.yaml": """
        defaults: [_base, _self_]
        _target_: pages.Data
        crop: 96         # pixels
        """,
    "model/_base.yaml": """
        activation: relu # sigmoid | tanh | relu | gelu
        dropout: 0.1     # share of units dropped
        rate: 1e-3       # YAML 1.1 would call this text
        """,
    "model/mlp.yaml": """
        defaults: [_base, _self_]
        dropout: 0
        network:
          _target_: networks.Mlp
          width: 16      # units of a layer
          columns: ${data.columns}  # list: what it reads
        """,
    "model/unet.yaml": """
        defaults: [_base, _self_]
        network:
          _target_: networks.UNet
          depth: 3       # levels
        """,
    "optimizer/adam.yaml": """
        lr: 0.002        # learning rate
        betas: [0.9, 0.999]  # decay of the means
        """,
    "optimizer/sgd.yaml": """
        lr: 0.1          # learning rate
        momentum: 0.9    # share of the last step
        """,
    "optimizer/adagrad.yaml": "lr: 0.1  # learning rate",
    "trainer/auto.yaml": """
        max_epochs: 10   # null | int: -1 is without end
        precision: 32-true  # 32-true | bf16-mixed
        deterministic: true  # bool | warn
        devices: auto    # auto | int | list | str
        """,
    "experiment/houses.yaml": """
        # @package _global_
        # Price houses: python train.py experiment=houses
        defaults:
          - override /data: houses
          - override /model: mlp
        monitor: val/rmse
        data:
          form: kaggle
        model:
          rate: 2e-3
        """,
    "experiment/pages.yaml": """
        # @package _global_
        # Clean pages.
        defaults:
          - override /data: pages
          - override /model: unet
          - override /optimizer: sgd
        optimizer:
          momentum: 0.95
        """,
    "study/rates.yaml": """
        # @package _global_
        defaults:
          - override /experiment: houses
        hydra:
          sweeper:
            params:
              optimizer: adam,sgd
              model.dropout: 0.0,0.5
              optimizer.lr: tag(log, interval(0.001, 1))
        """,
    "study/arms.yaml": """
        # @package _global_
        defaults:
          - override /hydra/sweeper: study
          - override /experiment: houses
        study:
          choose: optimizer.lr
          arms:
            none: {}
            L1 (0.1): {model.activation: tanh, data.columns: [a], trainer.max_epochs: 3}
            sgd, 1.5: {optimizer: sgd, optimizer.lr: "0.1,0.2", model: {network: {width: 8}}}
        hydra:
          sweeper:
            params:
              trainer.max_epochs: null
              model: {dropout: 0.5}
              +extras.texts: [a, "b c]"]
              seed: 0,1
        """,
    "hydra/sweeper/study.yaml": """
        _target_: hydra_plugins.triptych.study.StudySweeper
        params: {}       # settings of every job
        """,
    "debug/smoke.yaml": """
        # @package _global_
        trainer:
          max_epochs: 1
        """,
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        write(tmp_path / "conf" / name, text)
    return tmp_path / "conf"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text).strip() + "\n", encoding="utf-8")


def mistakes(conf: Path, command: str | list[str]) -> list[str]:
    """Return the lines of the error message for a command line, [] if it is valid."""
    try:
        check(command.split() if isinstance(command, str) else command, conf)
    except ConfigError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    "override",
    [
        "seed=3",
        "mode=max",
        "monitor=val/auroc",
        "monitor=null",
        "model.dropout=0.3",
        "model.dropout=1",  # an integer is a float, and 0 in mlp.yaml is still the float of _base.yaml
        "model.rate=1e-4",
        "model.rate=inf",
        "model.rate=${model.dropout}",
        "model.activation=gelu",
        "data.batch_size=1",
        "data.batch_size=full",
        "data.augment=false",
        "data.columns=[c]",
        "data.columns.0=c",
        "data.root=/data",
        "data={batch_size: full, root: null}",
        "model.network=null",
        "model.network.width=8",
        "model.network._target_=networks.Other",
        "trainer.precision=bf16-mixed",
        "trainer.deterministic=warn",
        "trainer.devices=[0,1]",
        "++trainer.max_epochs=3",
        "+extras.anything.at.all=3",
        "+extras={a: 1}",
        "~data.augment",
        "~optimizer.betas",
        "~debug",
        "optimizer=sgd",
        "optimizer=[sgd]",
        "model=unet",
        "debug=smoke",
        "hydra.run.dir=/tmp/run",
        "hydra.run.dir='/tmp/x=y'",
        "hydra/job_logging=none",
        "--cfg=job",
    ],
)
def test_valid_command_line_is_accepted(conf: Path, override: str) -> None:
    assert mistakes(conf, ["experiment=houses", override]) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.activaton=relu", "model.activaton is not a key of this run; did you mean model.activation?"),
        ("+model.activaton=relu", "model.activaton is not a key of this run; did you mean model.activation?"),
        ("++model.activaton=relu", "model.activaton is not a key of this run; did you mean model.activation?"),
        ("~model.activaton", "model.activaton is not a key of this run; did you mean model.activation?"),
        ("~extras.there", "Could not delete from config. 'extras.there' does not exist."),
        ("dropout=0.1", "dropout is not a key of this run; did you mean model.dropout?"),
        ("data.dropout=0.1", "data.dropout is not a key of this run; did you mean model.dropout?"),
        ("model.network.depth=3", "model.network.depth is not a key of this run; model=unet has it"),
        ("model={activaton: relu}", "model.activaton is not a key of this run; did you mean model.activation?"),
        ("seed.x=1", "seed.x is not a key of this run; seed has no keys"),
        ("data.columns.first=c", "data.columns.first is not a key of this run; data.columns has no keys"),
        ("optimzer=adam", "optimzer is not a key of this run; did you mean optimizer?"),
        ("optimzer/x=adam", "optimzer/x is not a key of this run; did you mean optimizer?"),
        ("optimizer=admaw", "optimizer has no admaw; did you mean adam? It has: adagrad, adam, sgd"),
        ("model=_base", "model has no _base. It has: mlp, unet"),
        ("optimizer=null", "optimizer=null: choose one of adagrad, adam, sgd"),
        ("debug=null", "debug=null: choose one of smoke; ~debug leaves it out"),
        ("~optimizer", "~optimizer: a run cannot do without optimizer; give it another value"),
        ("~optimizer=adam", "~optimizer: a run cannot do without optimizer; give it another value"),
        ("~trainer.precision", "~trainer.precision: a run cannot do without trainer.precision; give it another value"),
        ("hydra/launcher=slurm", "hydra/launcher has no slurm. It has: basic"),
        ("seed=1.5", "seed=1.5: expected int (declared in conf/config.yaml)"),
        ("seed=true", "seed=true: expected int (declared in conf/config.yaml)"),
        ("seed=null", "seed=null: expected int (declared in conf/config.yaml)"),
        ("seed='1'", "seed=1: expected int (declared in conf/config.yaml)"),
        ("name=3", "name=3: expected str (declared in conf/config.yaml); as text it is written \"'3'\""),
        ("mode=mox", "mode=mox: choose one of min, max (declared in conf/config.yaml); did you mean max?"),
        ("monitor=3", "monitor=3: expected null or str (declared in conf/config.yaml)"),
        ("model.dropout=high", "model.dropout=high: expected float (declared in conf/model/mlp.yaml)"),
        ("model.dropout=true", "model.dropout=true: expected float (declared in conf/model/mlp.yaml)"),
        ("model.rate='1e-4'", "model.rate=1e-4: expected float (declared in conf/model/_base.yaml)"),
        (
            "model.activation=ReLu",
            "model.activation=ReLu: choose one of sigmoid, tanh, relu, gelu "
            "(declared in conf/model/_base.yaml); did you mean relu?",
        ),
        ("model.network=3", "model.network=3: expected a mapping (declared in conf/model/mlp.yaml)"),
        ("model={dropout: x}", "model.dropout=x: expected float (declared in conf/model/mlp.yaml)"),
        ("data.augment=1", "data.augment=1: expected bool (declared in conf/data/_base.yaml)"),
        ("data.columns=a", "data.columns=a: expected list (declared in conf/data/_base.yaml)"),
        (
            "data.batch_size=ful",
            "data.batch_size=ful: expected int or full (declared in conf/data/_base.yaml); did you mean full?",
        ),
        ("data.form=statib", "data.form=statib: choose one of kaggle, statlib (declared in conf/data/houses.yaml)"),
        ("trainer.max_epochs=2.5", "trainer.max_epochs=2.5: expected null or int (declared in conf/trainer/auto.yaml)"),
        ("+trainer.max_epochs=3", "trainer.max_epochs is a key of this run already: leave out the + before it"),
        ("+experiment=pages", "experiment is chosen twice"),
        ("hydra.rum.dir=x", "hydra.rum.dir is not a key of Hydra's; did you mean hydra.run.dir?"),
        ("hydra/lanucher=x", "hydra/lanucher is not a key of Hydra's; did you mean hydra/launcher?"),
        ("hydra.job.num=x", "Error merging override hydra.job.num=x Value 'x' of type 'str'"),
        ("hydra.run.dir=/tmp/x=y", "hydra.run.dir=/tmp/x=y cannot be read"),
        ("houses", "houses cannot be read (missing EQUAL at '<EOF>'); write data=houses"),
        ("house", "house cannot be read (missing EQUAL at '<EOF>'); write key=value"),
        ("--seed=3", "unrecognized arguments: --seed=3 (settings are written key=value, without dashes)"),
        ("=3", " is not a key of this run"),
        ("optimizer=", "optimizer has no ''. It has: adagrad"),
        ("--cfg=jobs", "argument --cfg/-c: invalid choice: 'jobs'"),
        ("--resolve", "--resolve goes with --cfg"),
        ("--config-dir=nowhere", "--config-dir nowhere: there is no such folder"),
    ],
)
def test_mistake_is_explained(conf: Path, override: str, message: str) -> None:
    [mistake] = mistakes(conf, ["experiment=houses", override])
    assert mistake.startswith(message)


def test_all_mistakes_are_reported_at_once(conf: Path) -> None:
    found = mistakes(conf, "experiment=houses optimizer=admaw model=mpl optimizer.x=1 seed=a data.rot=1")
    assert [line.split()[0] for line in found] == ["optimizer", "model", "seed=a:", "data.rot"]


def test_all_syntax_errors_are_reported_at_once(conf: Path) -> None:
    assert len(mistakes(conf, "experiment=houses seed==3 model.dropout=a=b")) == 2


@pytest.mark.parametrize("flag", ["--help", "-h", "--hydra-help", "--version", "--shell-completion", "--info"])
def test_help_is_not_checked(conf: Path, flag: str) -> None:
    check(["nonsense=1", flag], conf)


def test_missing_experiment_lists_the_available_ones(conf: Path) -> None:
    assert mistakes(conf, "seed=3") == [
        "Choose an experiment: python train.py experiment=NAME, where NAME is one of",
        "  houses  Price houses: python train.py experiment=houses",
        "  pages   Clean pages.",
    ]


@pytest.mark.parametrize("plus", ["", "+"])
def test_unknown_experiment(conf: Path, plus: str) -> None:
    message = "experiment has no hoses; did you mean houses? It has: houses, pages"
    assert mistakes(conf, f"{plus}experiment=hoses seed=x") == [message]


def test_missing_conf(tmp_path: Path) -> None:
    [mistake] = mistakes(tmp_path / "nowhere", "experiment=houses")
    assert "Cannot find primary config 'config'" in mistake


class TestFiles:
    """Mistakes in config files, which the message names."""

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model: {activaton: relu}", "model.activaton is not a key of this run; did you mean model.activation?"),
            (
                "model: {activation: rleu}",
                "model.activation=rleu: choose one of sigmoid, tanh, relu, gelu (declared in",
            ),
            ("trainer: {max_epochs: 1e3}", "trainer.max_epochs=1000.0: expected null or int (declared in"),
            ("modle: {}", "modle is not a key of this run; did you mean mode or model?"),
            ("defaults: [override /optimizer: admaw]", "optimizer has no admaw; did you mean adam? It has: adagrad"),
            ("defaults: [override /optimzer: adam]", "optimzer is not a group; did you mean optimizer?"),
            ("defaults: [other]", "experiment has no other"),
            ("- a", "expected keys and values, got a list"),
        ],
    )
    def test_mistake_in_an_experiment(self, conf: Path, text: str, message: str) -> None:
        write(conf / "experiment/mine.yaml", f"# @package _global_\n{text}")
        [mistake] = mistakes(conf, "experiment=mine data=houses model=mlp data.form=kaggle")
        assert mistake.startswith(f"conf/experiment/mine.yaml: {message}")

    def test_hydra_keys(self, conf: Path) -> None:
        write(conf / "experiment/mine.yaml", "# @package _global_\nhydra: {job: {nmae: x}}")
        [mistake] = mistakes(conf, "experiment=mine")
        assert mistake.startswith("In 'experiment/mine'")
        assert "'nmae' not in 'JobConf'" in mistake

    def test_yaml_syntax_error(self, conf: Path) -> None:
        write(conf / "experiment/mine.yaml", "# @package _global_\nmodel: {a: 1")
        [mistake] = mistakes(conf, "experiment=mine")
        assert "mine.yaml" in mistake
        assert "line 3" in mistake

    def test_inherited_alternatives_hold_for_a_new_default(self, conf: Path) -> None:
        write(conf / "model/mlp.yaml", "defaults: [_base, _self_]\nactivation: rleu")
        [mistake] = mistakes(conf, "experiment=houses")
        assert mistake.startswith("conf/model/mlp.yaml: model.activation=rleu: choose one of sigmoid, tanh")
        assert "(declared in conf/model/_base.yaml); did you mean relu?" in mistake

    def test_option_without_a_key_that_the_experiment_sets(self, conf: Path) -> None:
        [mistake] = mistakes(conf, "experiment=pages optimizer=adam")
        assert mistake == (
            "conf/experiment/pages.yaml: optimizer.momentum is not a key of this run; optimizer has betas, lr "
            "(~optimizer.momentum leaves it out for optimizer=adam)"
        )
        assert mistakes(conf, "experiment=pages optimizer=adam ~optimizer.momentum") == []

    def test_mandatory_value_is_missing(self, conf: Path) -> None:
        write(conf / "experiment/mine.yaml", "# @package _global_\ndefaults: [override /data: houses]")
        assert mistakes(conf, "experiment=mine model=mlp") == [
            "data.form must be given (declared in conf/data/houses.yaml)"
        ]
        assert mistakes(conf, "experiment=mine model=mlp data.form=statlib") == []

    def test_debug_is_checked(self, conf: Path) -> None:
        write(conf / "debug/smoke.yaml", "# @package _global_\ntrainer: {max_epoch: 1}")
        [mistake] = mistakes(conf, "experiment=houses debug=smoke")
        assert mistake.startswith("conf/debug/smoke.yaml: trainer.max_epoch is not a key")

    def test_a_new_task_needs_new_files_only(self, conf: Path) -> None:
        write(conf / "data/stars.yaml", "bands: 5  # colours")
        experiment = "# @package _global_\ndefaults:\n- override /data: stars\n- override /model: mlp\ndata: {bands: 3}"
        write(conf / "experiment/stars.yaml", experiment)
        assert mistakes(conf, "experiment=stars data.bands=4") == []
        assert mistakes(conf, "experiment=stars data.bnds=4") == [
            "data.bnds is not a key of this run; did you mean data.bands?"
        ]

    @pytest.mark.parametrize("how", ["--config-dir={}", "hydra.searchpath=['{}']"])
    def test_mistake_in_an_added_config_folder(self, conf: Path, tmp_path: Path, how: str) -> None:
        experiment = "# @package _global_\ndefaults: [override /data: pages, override /model: mlp]\nsed: 3"
        write(tmp_path / "more/experiment/mine.yaml", experiment)
        [mistake] = mistakes(conf, ["experiment=mine", how.format(tmp_path / "more")])
        assert mistake == f"{tmp_path}/more/experiment/mine.yaml: sed is not a key of this run; did you mean seed?"

    def test_interpolations_are_checked_once_resolved(self, conf: Path) -> None:
        assert mistakes(conf, ["experiment=houses", "seed=${model.dropout}", "name=${nothing:}"]) == []
        [mistake] = mistakes(conf, ["experiment=houses", "seed=${model.rate}"])
        assert mistake == "seed=${model.rate} is 0.002: expected int (declared in conf/config.yaml)"
        [mistake] = mistakes(conf, ["experiment=houses", "data.columns=${name}"])
        assert mistake.startswith("data.columns=${name} is run: expected list")


class TestSweeps:
    def test_sweep_needs_m(self, conf: Path) -> None:
        message = "asks for several runs: python train.py -m experiment=houses seed=1,2 'data.batch_size=range(1,3)'"
        found = mistakes(conf, ["experiment=houses", "seed=1,2", "data.batch_size=range(1,3)"])
        assert [line.partition(" (")[0] for line in found] == [
            f"seed=1,2 {message}",
            f"data.batch_size=range(1,3) {message}",
        ]
        assert mistakes(conf, "-m experiment=houses seed=1,2") == []
        assert mistakes(conf, "experiment=houses seed=1,2 hydra.mode=MULTIRUN") == []

    def test_study_needs_m(self, conf: Path) -> None:
        found = mistakes(conf, "study=rates seed=3")
        assert found == ["study=rates asks for several runs: python train.py -m study=rates seed=3"]
        assert mistakes(conf, "-m study=rates seed=3") == []
        assert mistakes(conf, "study=rates --cfg job") == []

    def test_studies_cannot_be_swept(self, conf: Path) -> None:
        write(conf / "study/more.yaml", FILES["study/rates.yaml"])
        assert len(mistakes(conf, "-m study=rates,more")) == 2

    def test_study_is_checked(self, conf: Path) -> None:
        wrong = FILES["study/rates.yaml"].replace("adam,sgd", "adma,sgd").replace("dropout: 0.0", "dropout: low")
        write(conf / "study/rates.yaml", wrong.replace("interval(0.001", "interval(a"))
        assert "study/rates.yaml: optimizer.lr=tag(log, interval(a" in mistakes(conf, "-m study=rates")[0]
        write(conf / "study/rates.yaml", wrong)
        assert mistakes(conf, "-m study=rates") == [
            "conf/study/rates.yaml: optimizer has no adma; did you mean adam? It has: adagrad, adam, sgd",
            "conf/study/rates.yaml: model.dropout=low: expected float (declared in conf/model/mlp.yaml)",
        ]
        assert mistakes(conf, "-m study=rates model.dropout=0.1 optimizer=adam") == []  # the command line wins

    def test_arms_with_any_name_are_checked(self, conf: Path) -> None:
        assert mistakes(conf, "-m study=arms") == []
        wrong = FILES["study/arms.yaml"].replace("tanh", "tahn").replace("width: 8", "widht: 8")
        write(conf / "study/arms.yaml", wrong)
        assert [line.partition("; ")[0].partition(" (")[0] for line in mistakes(conf, "-m study=arms")] == [
            "conf/study/arms.yaml: model.activation=tahn: choose one of sigmoid, tanh, relu, gelu",
            "conf/study/arms.yaml: model.network.widht is not a key of this run",
        ]

    @pytest.mark.parametrize(
        ("override", "key"),
        [
            ("optimizer=adam", "optimizer"),
            ("optimizer=adam,sgd", "optimizer"),
            ("optimizer=[sgd]", "optimizer"),
            ("model.activation=relu", "model.activation"),
            ("++model.activation=relu,gelu", "model.activation"),
            ("~model.activation", "model.activation"),
            ("model={activation: relu}", "model.activation"),
            ("model.network=null", "model.network.width"),
            ("model.network={width: 4}", "model.network.width"),
            ("data.columns.0=c", "data.columns"),
            ("trainer.max_epochs=3", "trainer.max_epochs"),
        ],
    )
    def test_keys_that_a_study_compares_cannot_be_overridden(self, conf: Path, override: str, key: str) -> None:
        message = f"{override}: {key} is what conf/study/arms.yaml compares; leave it out, or change the arms there"
        assert mistakes(conf, ["-m", "study=arms", "seed=0", override]) == [message]

    @pytest.mark.parametrize(
        "override",
        [
            "seed=3,4",  # repeats each arm
            "optimizer.lr=0.3,0.4",  # chosen for each arm
            "optimizer={lr: 0.3}",
            "model=mlp",  # a group choice; an arm sets a key within the group
            "model.dropout=0.1",  # shared by all jobs
            "model.network={columns: [a]}",
            "data.batch_size=1,2",
            "debug=smoke",  # sets only one of the keys of an arm
        ],
    )
    def test_other_keys_of_a_study_can_be_overridden(self, conf: Path, override: str) -> None:
        assert mistakes(conf, ["-m", "study=arms", override]) == []

    def test_debug_must_leave_something_to_compare(self, conf: Path) -> None:
        write(conf / "debug/all.yaml", "# @package _global_\nmodel: {activation: relu}\ndata: {columns: [a]}")
        assert mistakes(conf, "-m study=arms debug=all") == []
        text = "# @package _global_\nmodel: {activation: relu}\ndata: {columns: [a]}\ntrainer: {max_epochs: 1}"
        write(conf / "debug/all.yaml", text)
        complaint = "sets all that L1 (0.1) of conf/study/arms.yaml set, and leaves nothing to compare; leave it out"
        assert mistakes(conf, "-m study=arms debug=all") == [f"debug=all {complaint}"]

    def test_null_is_checked_as_the_sweeper_writes_it(self, conf: Path) -> None:
        asked = "+hydra.sweeper.params.optimizer.lr=null"
        assert mistakes(conf, ["-m", "study=arms", asked])[0].startswith("optimizer.lr=null: expected float")
        # Hydra's own sweeper turns null into the string None.
        asked = "+hydra.sweeper.params.trainer.max_epochs=null"
        assert mistakes(conf, ["-m", "study=rates", asked])[0].startswith(
            "trainer.max_epochs=None: expected null or int"
        )
        write(conf / "study/arms.yaml", FILES["study/arms.yaml"].replace("override /hydra/sweeper: study", "_self_"))
        assert "model={'dropout': 0.5} cannot be read" in mistakes(conf, "-m study=arms")[0]

    def test_every_value_is_checked(self, conf: Path) -> None:
        command = "-m experiment=houses seed=1,2,x model.activation=relu,ReLU data.batch_size=range(1,4) optimizer.z=1"
        found = mistakes(conf, command)
        assert [line.split()[0] for line in found] == ["seed=x:", "model.activation=ReLU:", "optimizer.z"]

    def test_mistake_names_the_jobs_it_occurs_in(self, conf: Path) -> None:
        found = mistakes(conf, "-m experiment=houses optimizer=adam,sgd,adagrad optimizer.momentum=0.5 seed=1,2")
        assert found == [
            "optimizer.momentum is not a key of this run; optimizer=sgd has it "
            "(in the jobs with optimizer=adam, with optimizer=adagrad)"
        ]

    def test_globs_and_intervals(self, conf: Path) -> None:
        assert mistakes(conf, ["-m", "experiment=glob(*)", "optimizer=glob(*)", "~optimizer.momentum"]) != []
        assert mistakes(conf, ["-m", "experiment=houses", "optimizer=glob(a*)", "optimizer.lr=interval(0.1,1)"]) == []
        assert mistakes(conf, ["-m", "experiment=houses", "seed=interval(1,9)"]) == []
        assert mistakes(conf, ["-m", "experiment=houses", "seed=interval(0.5,9)"]) != []
        assert mistakes(conf, ["-m", "experiment=houses", "optimizer=glob(z*)"]) == [
            "optimizer=glob(z*) matches nothing"
        ]

    @pytest.mark.parametrize("override", ["+hydra.sweeper.params={KEY: '1,2'}", "+hydra.sweeper.params.KEY='1,2'"])
    def test_params_on_the_command_line(self, conf: Path, override: str) -> None:
        assert mistakes(conf, ["-m", "study=rates", override.replace("KEY", "seed")]) == []
        [mistake] = mistakes(conf, ["-m", "study=rates", override.replace("KEY", "sed")])
        assert mistake == "sed is not a key of this run; did you mean seed?"

    def test_hydra_cannot_be_swept(self, conf: Path) -> None:
        [mistake] = mistakes(conf, "-m experiment=houses hydra.verbose=true,false")
        assert mistake == "hydra.verbose=true,false: Hydra's own keys cannot be swept over"

    def test_only_group_choices_need_a_composition(self, conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        composed, merged = [], []
        compose, merge = Composer._compose, Composer.merge
        monkeypatch.setattr(Composer, "_compose", lambda *given: composed.append(1) or compose(*given))
        monkeypatch.setattr(Composer, "merge", lambda *given: merged.append(1) or merge(*given))
        check(["-m", "experiment=houses", "optimizer=adam,sgd", "seed=range(0,50)", "model.dropout=0,0.5"], conf)
        assert len(composed) == 3  # for 200 jobs: one for what they share, one per optimizer
        assert len(merged) == 2


@pytest.mark.parametrize(
    ("comment", "value", "accepted"),
    [
        ("1 | 2", 2, True),
        ("1 | 2", 2.0, True),
        ("1 | 2", 3, False),
        ("1 | 2", "2", True),
        ("@ | 1.2.3", 3, False),
        ("true | auto", True, True),
        ("true | auto", False, False),
        ("true | auto", 1, False),
        ("null | dict", {"a": 1}, True),
        ("int | full", [1], False),
        ("float | auto", float("nan"), True),
        ("int>=1 | full", 1, True),
        ("int>=1 | full", 0, False),
        ("int>=1 | full", 2.0, False),
        ("int>=1 | full", "full", True),
        ("int>=-1", -1, True),
        ("int>=-1", True, False),
        ("0<=float<1", 0, True),
        ("0<=float<1", 0.999, True),
        ("0<=float<1", 1.0, False),
        ("0<=float<1", -0.001, False),
        ("0<=float<1", float("nan"), False),
        ("0<=float<1", "${other}", True),
        ("null | float>1e-3", 1e-3, False),
        ("0<float<.5", 0.5, False),
        ("float>=1e+3", 999, False),
        ("null | float>1e-3", None, True),
        ("int<4 | int>6", 5, False),
        ("int<4 | int>6", 7, True),
    ],
)
def test_values_against_alternatives(comment: str, value: object, accepted: bool) -> None:
    assert Declaration("default", "file", alternatives_in(comment)).accepts(value) is accepted


@pytest.mark.parametrize(
    ("comment", "alternatives"),
    [
        ("int | full: rows a step; full is all", ("int", "full")),
        ("sigmoid | tanh", ("sigmoid", "tanh")),
        ("null | float (share)", ("null", "float")),
        ("a | b; c | d", ("a", "b")),
        ("int>=1: rows a step", ("int>=1",)),
        ("0<=float<=1", ("0<=float<=1",)),
        ("int: rows a step", ()),
        ("int >= 1: rows a step", ()),
        ("str>=1", ()),
        ("rows: a | b", ()),
        ("this one | or that", ()),
        ("prose", ()),
        ("", ()),
    ],
)
def test_alternatives_are_read_from_comments(comment: str, alternatives: tuple[str, ...]) -> None:
    assert alternatives_in(comment) == alternatives


def test_comments_belong_to_the_key_on_their_line() -> None:
    text = dedent("""
        # above
        a: 1 # one
        b: "# no"  # text
        c:  # mapping
          d: [1, 2]  # list
        e: x#y
        f:
        g: | # block
          # inside
        """)
    expected = {"a": "one", "b": "text", "c": "mapping", "c.d": "list", "g": "block"}
    assert comments_in(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lr", ["optimizer.lr", "scheduler.lr"]),
        ("optimzer.lr", ["optimizer.lr"]),
        ("model.max_epochs", ["trainer.max_epochs"]),
        ("trainer.zzz", []),
    ],
)
def test_nearest(name: str, expected: list[str]) -> None:
    assert nearest(name, ["optimizer.lr", "scheduler.lr", "trainer.max_epochs", "trainer.devices"]) == expected


def test_undocumented(conf: Path) -> None:
    write(conf / "data/stars.yaml", "_target_: x\n# bands\nbands: 5\nrows: 3\nnested: {a: 1}\nsome: # yes\n  b: {}")
    assert undocumented(conf) == [
        "data/houses.yaml:batch_size",
        "data/stars.yaml:rows",
        "data/stars.yaml:nested.a",
        "data/stars.yaml:some.b",
        "model/mlp.yaml:dropout",
    ]


def test_imports_nothing_heavy() -> None:
    program = "import sys, triptych.config; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "torchvision", "lightning", "numpy", "pandas", "matplotlib"} & {*loaded}


class TestRepository:
    """The project's own config."""

    conf = REPOSITORY / "conf"
    experiments = sorted(path.stem for path in conf.glob("experiment/[!_]*.yaml"))

    @pytest.mark.parametrize("experiment", experiments)
    def test_every_experiment_is_valid(self, experiment: str) -> None:
        check([f"experiment={experiment}"], self.conf)

    @pytest.mark.parametrize("search", sorted(path.stem for path in conf.glob("search/[!_]*.yaml")))
    def test_every_search_is_valid(self, search: str) -> None:
        check(["-m", f"search={search}"], self.conf)

    @pytest.mark.parametrize(
        "override",
        [
            "seed=-1",
            "data.folds=1",
            "data.batch_size=0",
            "data.train_size=1.5",
            "model.dropout=1",
            "model.weight_decay=-0.1",
            "optimizer.lr=-0.1",
            "trainer.accumulate_grad_batches=0",
            "trainer.check_val_every_n_epoch=0",
            "trainer.gradient_clip_val=-1",
            "trainer.limit_train_batches=0",
            "trainer.log_every_n_steps=-3",
            "trainer.val_check_interval=0",
            "callbacks.early_stopping.patience=-1",
        ],
    )
    def test_numbers_have_bounds(self, override: str) -> None:
        with pytest.raises(ConfigError, match=rf"{override}: expected .*[<>].* \(declared in conf/"):
            check([f"experiment={FASTEST}", override], self.conf)

    def test_no_bound_is_misspelt(self) -> None:
        """A misspelt bound would be read as prose, or as a literal alternative."""
        comments = [comment for path in self.conf.rglob("*.yaml") for comment in comments_in(path.read_text()).values()]
        bounds = [word for comment in comments for word in re.split(r": | \| |$", comment, maxsplit=2)[:2]]
        meant = [word for word in bounds if re.search(r"[<>]", word) and len(word.split()) < 3]
        assert len(meant) > 70
        assert [word for word in meant if not BOUNDED.fullmatch(word)] == []

    def test_alternatives_are_recognised(self) -> None:
        """With a comma instead of a colon before the explanation, they would be read as prose."""
        comments = [comment for path in self.conf.rglob("*.yaml") for comment in comments_in(path.read_text()).values()]
        meant = [comment for comment in comments if " | " in comment]
        assert len(meant) > 50
        assert [comment for comment in meant if not alternatives_in(comment)] == []

    def test_every_key_is_documented(self) -> None:
        assert undocumented(self.conf) == []
