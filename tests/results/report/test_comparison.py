"""Which runs are ranked together, in which order, and what is averaged."""

from pathlib import Path
from typing import Any

import pytest
from tests.fake_sweep import CONFIG, begun, done, failed

from triptych.results.record import read_records
from triptych.results.report.comparison import Comparison, compare
from triptych.results.report.settings import swept


def comparison(sweep: Path, **options: Any) -> Comparison:
    return compare(read_records([sweep]), **options)


def names(ranked: list[Any]) -> list[str]:
    return [record.name for record in ranked]


def test_only_differing_settings_count_and_equal_numbers_are_equal(tmp_path: Path):
    done(tmp_path, "0", "optimizer.lr=1e-3", "data.batch_size=256", "model.width=64", "threads=1")
    done(tmp_path, "1", "optimizer.lr=0.001", "data.batch_size=full", "threads=1")
    done(tmp_path, "2", "optimizer.lr=0.0010", "data.batch_size=256", "model.width=64", "threads=1")
    (ranking,) = comparison(tmp_path).rankings
    assert ranking.keys == ["data.batch_size"]
    assert [list(settings.values()) for settings in ranking.settings.values()] == [["256"], ["full"], ["256"]]


def test_settings_not_given_are_read_from_the_saved_config(tmp_path: Path):
    done(tmp_path, "0", "optimizer=sgd", "data.augment=none", "model.dropout=0.1", "data.root=/here")
    done(tmp_path, "1", "+callbacks.mine.x=1")
    (ranking,) = comparison(tmp_path).rankings
    given, left = ranking.settings.values()
    assert given == {
        "optimizer": "sgd",
        "data.augment": "none",
        "model.dropout": "0.1",
        "data.root": "/here",
        "callbacks.mine.x": "null",
    }
    # A group choice, a list, null, and an interpolation, which has no value of its own.
    assert left == {
        "optimizer": "adamw",
        "data.augment": "[flip,crop]",
        "model.dropout": "null",
        "data.root": "",
        "callbacks.mine.x": "1",
    }


def test_the_spelling_of_a_value_makes_no_difference(tmp_path: Path):
    done(tmp_path, "0", "model.clip=true", "data.augment=[flip,crop]", "data.root='/my data'", "model.width=8")
    done(tmp_path, "1", "model.clip=True", "data.augment=[flip, 'crop']", 'data.root="/my data"', "model.width=9")
    (ranking,) = comparison(tmp_path).rankings
    assert ranking.keys == ["model.width"]


@pytest.mark.parametrize("value", ["[" * 500, "'", "${x", "[a", "choice(1,2)", "{a:1}"])
def test_a_value_that_no_run_could_have_is_kept_as_it_is(value: str, tmp_path: Path):
    done(tmp_path, "0", f"model.clip={value}")
    done(tmp_path, "1", "model.clip=1")
    (ranking,) = comparison(tmp_path).rankings
    assert [settings["model.clip"] for settings in ranking.settings.values()] == [value, "1"]


@pytest.mark.parametrize("key", ["data.train_size", "trainer.limit_train_batches"])
def test_one_and_all_are_different_settings(key: str, tmp_path: Path):
    for name, value in enumerate(("1", "1.0", "1", "1.0", "0.5")):
        done(tmp_path, str(name), f"{key}={value}", f"seed={name}", value=float(name))
    (ranking,) = comparison(tmp_path).rankings
    found = {group.settings[key]: group.values for group in ranking.groups}
    assert found == {"1": [0.0, 2.0], "100%": [1.0, 3.0], "0.5": [4.0]}


def test_shares_without_a_whole_one_stay_numbers(tmp_path: Path):
    for name, value in enumerate(("0.5", "1.0", "100")):
        done(tmp_path, str(name), f"data.train_size={value}")
    (ranking,) = comparison(tmp_path).rankings
    assert [settings["data.train_size"] for settings in ranking.settings.values()] == ["0.5", "1.0", "100"]


def test_runs_with_different_samples_held_out_are_not_ranked_together(tmp_path: Path):
    for name, (hold_out, seed) in enumerate((h, s) for h in ("dark", "bright") for s in (0, 1)):
        config = CONFIG | {"data": {"hold_out": hold_out}}
        done(tmp_path, str(name), f"data.hold_out={hold_out}", f"data.split_seed={seed}", config=config)
    with pytest.raises(ValueError, match=r"data\.hold_out is dark \(run 0, 1\), bright \(run 2, 3\)"):
        comparison(tmp_path)
    assert len(comparison(tmp_path, apart=True).rankings) == 2


@pytest.mark.parametrize(("mode", "order"), [("min", ["1", "0", "2"]), ("max", ["2", "0", "1"])])
def test_the_mode_of_the_runs_decides_the_order(mode: str, order: list[str], tmp_path: Path):
    for name, value in (("0", 2.0), ("1", 1.0), ("2", 3.0), ("3", None)):
        done(tmp_path, name, f"seed={name}", value=value, config=CONFIG | {"mode": mode})
    begun(tmp_path, "4")
    (ranking,) = comparison(tmp_path).rankings
    assert names(ranking.ranked) == order
    assert len(ranking.records) == 5


def test_means_are_over_seeds_and_folds_of_finished_runs(tmp_path: Path):
    job = iter(range(100))
    for width, values in ((16, (4.0, 6.0, 5.0)), (32, (1.0, 2.0))):
        for fold, value in enumerate(values):
            done(
                tmp_path, str(next(job)), f"model.width={width}", f"data.fold={fold}", f"seed={fold + 7}", value=value,
                data={"fold": f"{fold} of 3"},
            )  # fmt: skip
    failed(tmp_path, str(next(job)), "model.width=32", "data.fold=2", "seed=9", error="ValueError: no")
    done(tmp_path, "pruned", "model.width=32", "seed=3", value=99.0, data={"fold": "2 of 3"}, pruned=True)
    compared = comparison(tmp_path)
    (ranking,) = compared.rankings
    assert compared.differences == []  # folds are repetitions
    assert [(group.settings, group.values, len(group.records)) for group in ranking.groups] == [
        ({"model.width": "32"}, [1.0, 2.0], 4),
        ({"model.width": "16"}, [4.0, 6.0, 5.0], 3),
    ]
    assert [group.tests for group in ranking.groups] == [[1501.0, 1502.0], [1504.0, 1506.0, 1505.0]]
    assert ranking.repeated
    assert ranking.parameters == ["model.width"]


def test_of_parameters_that_vary_together_only_one_is_plotted(tmp_path: Path):
    for name, (optimizer, lr) in enumerate([("sgd", "0.1"), ("sgd", "0.1"), ("adam", "0.001"), ("adam", "0.001")]):
        done(tmp_path, str(name), f"optimizer={optimizer}", f"optimizer.lr={lr}", f"seed={name % 2}")
    (ranking,) = comparison(tmp_path).rankings
    assert ranking.keys == ["optimizer", "optimizer.lr", "seed"]
    assert ranking.parameters == ["optimizer"]


def test_sampled_parameters_do_not_count_as_varying_together(tmp_path: Path):
    for name in range(4):
        done(tmp_path, str(name), f"optimizer.lr=0.00{name + 1}", f"model.dropout=0.{9 - name}")
    (ranking,) = comparison(tmp_path).rankings
    assert ranking.parameters == ["optimizer.lr", "model.dropout"]


def other(what: str) -> dict[str, Any]:
    return {
        "fingerprint": {"data": {"fingerprint": "99aa"}},
        "data.split": {"data": {"split": "random"}},
        "data.folds": {"data": {"fold": "0 of 5"}},
        "val samples": {"data": {"sizes": {"train": 13208, "val": 9, "test": 1652}}},
        "experiment": {"experiment": "denoise"},
        "monitor": {"monitor": "val/mae"},
    }[what]


@pytest.mark.parametrize("what", ["fingerprint", "data.split", "data.folds", "val samples", "experiment", "monitor"])
def test_runs_that_differ_in_more_than_settings_are_not_ranked(what: str, tmp_path: Path):
    done(tmp_path, "0", value=3.0)
    done(tmp_path, "1", value=2.0, **other(what))
    done(tmp_path, "2", value=1.0)
    with pytest.raises(ValueError, match=what) as refused:
        comparison(tmp_path)
    assert ("--monitor" if what == "monitor" else "--mixed") in str(refused.value)

    apart = comparison(tmp_path, apart=True)
    assert [names(ranking.ranked) for ranking in apart.rankings] == [["2", "0"], ["1"]]
    assert all(what in text for text in (apart.differences[0], *(ranking.title for ranking in apart.rankings)))
    assert not apart.mixed

    if what != "monitor":
        mixed = comparison(tmp_path, mixed=True)
        assert [names(ranking.ranked) for ranking in mixed.rankings] == [["2", "1", "0"]]
        assert mixed.mixed
        assert what in mixed.differences[0]


def test_unfinished_runs_are_listed_with_runs_on_the_same_data(tmp_path: Path):
    for seed, split in enumerate(("grouped", "random")):
        fingerprint = {"split": split, "fingerprint": split}
        done(tmp_path, f"{seed}", f"data.split={split}", "model.width=8", "seed=0", data=fingerprint)
    failed(tmp_path, "2", "data.split=random", "model.width=8", "seed=1", error="Diverged: the loss is NaN")
    begun(tmp_path, "3", "data.split=random", "model.width=8", "seed=2")
    failed(tmp_path, "4", "data.split=other", "model.width=8", "seed=0", error="ValueError: no")
    compared = comparison(tmp_path, apart=True)
    assert [names(ranking.records) for ranking in compared.rankings] == [["0"], ["1", "2", "3"]]
    (group,) = compared.rankings[1].groups
    assert (len(group.values), len(group.records)) == (1, 3)
    assert names(compared.unfinished) == ["2", "3", "4"]


def test_an_unfinished_run_on_unknown_data_is_in_no_ranking(tmp_path: Path):
    for name, mark in (("0", "aa"), ("1", "bb")):  # the data files changed in between
        done(tmp_path, name, f"seed={name}", data={"fingerprint": mark})
    begun(tmp_path, "2", "seed=2")
    assert [names(ranking.records) for ranking in comparison(tmp_path, apart=True).rankings] == [["0"], ["1"]]


def test_titles_of_rankings_are_unique(tmp_path: Path):
    for name, (split, size) in enumerate([("grouped", 1), ("random", 1), ("random", 2)]):
        data = {"split": split, "fingerprint": split, "sizes": {"train": 1, "val": size, "test": 1}}
        monitor = "val/rmse" if split == "grouped" else "val/mae"
        done(tmp_path, str(name), monitor=monitor, data=data)
    titles = [ranking.title for ranking in comparison(tmp_path, apart=True).rankings]
    assert len(set(titles)) == 3
    assert "val samples 2" in titles[2]


def test_a_shared_metric_ranks_runs_with_different_monitors(tmp_path: Path):
    done(tmp_path, "0", value=3.0, best={"val/rmse": 3.0, "val/loss": 1.0})
    done(tmp_path, "1", monitor="val/auroc", best={"val/auroc": 0.9, "val/loss": 0.5})
    (ranking,) = comparison(tmp_path, monitor="val/loss").rankings
    assert names(ranking.ranked) == ["1", "0"]


def test_a_refusal_names_the_runs_and_both_options(tmp_path: Path):
    for experiment, monitor, mark in (("housing", "val/rmse", "aa"), ("pneumonia", "val/auroc", "bb")):
        run = done(
            tmp_path / experiment, "2026-07-01", monitor=monitor, data={"fingerprint": mark}, experiment=experiment
        )
        (run.parent / "latest").symlink_to(run.name)
    records = read_records([tmp_path / name / "latest" for name in ("housing", "pneumonia")])
    with pytest.raises(ValueError, match="cannot be ranked") as refused:
        compare(records)
    assert "monitor is val/rmse (run housing/2026-07-01), val/auroc (run pneumonia/2026-07-01)" in str(refused.value)
    assert str(refused.value).endswith("with --monitor METRIC, and --mixed, because their data differ too")
    assert list(compare(records, "val/loss", mixed=True).labels.values()) == [
        "housing/2026-07-01",
        "pneumonia/2026-07-01",
    ]


def test_runs_have_the_shortest_unique_labels(tmp_path: Path):
    places = [done(tmp_path / folder, "0") for folder in ("a/sweep", "b/sweep", "b/other")]
    assert list(compare(read_records(places)).labels.values()) == ["a/sweep/0", "b/sweep/0", "b/other/0"]
    assert list(compare(read_records(places[1:])).labels.values()) == ["sweep/0", "other/0"]
    assert list(compare(read_records(places[:1])).labels.values()) == ["0"]


def test_a_job_that_failed_before_starting_adds_no_setting(tmp_path: Path):
    for name, rate in (("0", "0.1"), ("1", "0.2")):
        done(tmp_path / "sweep", name, f"optimizer.lr={rate}")
    (tmp_path / "sweep/2").mkdir()
    (tmp_path / "sweep/2/error.txt").write_text("killed by SIGKILL (out of memory?)\n")
    settings = swept(read_records([tmp_path / "sweep"]))
    assert [list(own) for own in settings.values()] == [["optimizer.lr"]] * 3


def test_the_size_of_the_training_split_may_be_swept(tmp_path: Path):
    for name, size in (("0", 100), ("1", 1000)):
        done(
            tmp_path, name, f"data.train_size={size}", data={"sizes": {"train": size, "val": 1652, "test": 1652}}
        )  # fmt: skip
    (ranking,) = comparison(tmp_path).rankings
    assert ranking.keys == ["data.train_size"]


def test_split_seeds_are_repetitions(tmp_path: Path):
    for name, size in (("0", 1650), ("1", 1652)):
        done(
            tmp_path, name, f"data.split_seed={name}", data={"sizes": {"train": 13208, "val": size, "test": 1652}}
        )  # fmt: skip
    (ranking,) = comparison(tmp_path).rankings
    assert len(ranking.groups) == 1


def test_an_unfinished_run_does_not_prevent_ranking(tmp_path: Path):
    done(tmp_path, "0")
    begun(tmp_path, "1")
    compared = comparison(tmp_path)
    assert names(compared.unfinished) == ["1"]
    assert len(compared.rankings) == 1
