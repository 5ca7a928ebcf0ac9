"""Housing features computed inside the exported graph, compared with those read for training."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from triptych.data.block_groups import MAY_BE_MISSING, NUMBERS, PROXIMITIES
from triptych.data.california import CaliforniaDataModule
from triptych.data.serving.rows import RawRows


class Features(torch.nn.Module):
    """A model that records its input and predicts the income."""

    def predict(self, rows: Tensor) -> dict[str, Tensor]:
        self.seen = rows
        return {"prediction": rows[:, NUMBERS.index("median_income")]}


@pytest.fixture
def table(data_root: Path) -> CaliforniaDataModule:
    data = CaliforniaDataModule(root=str(data_root), source="files", rotations=3, ratios=True)
    data.setup()
    return data


def test_the_graph_computes_the_features_of_training(table: CaliforniaDataModule):
    model = Features()
    model.hparams = {"feature_names": table.samples.names}
    serving = table.serving(model)
    assert [port.name for port in serving.inputs] == [*NUMBERS, "ocean_proximity"]
    assert {len(sample.prepared) for sample in serving.samples} == {40, 1, 8}
    assert any(sample.prepared.isnan().any() for sample in serving.samples)
    for sample in serving.samples:
        serving.graph(*sample.raw)
        assert torch.equal(model.seen.nan_to_num(), sample.prepared.nan_to_num())


def test_an_invalid_row_gets_a_nan_price():
    numbers = torch.ones(len(NUMBERS), 6)
    numbers[NUMBERS.index("total_bedrooms"), 0] = torch.nan
    numbers[NUMBERS.index("population"), 1] = torch.nan
    numbers[NUMBERS.index("total_bedrooms"), 2] = torch.inf
    codes = torch.tensor([0, 0, 0, 5, -1, 4])
    graph = RawRows(Features(), NUMBERS, MAY_BE_MISSING, [(3, 6)], [45.0], len(PROXIMITIES))
    (prices,) = graph(*numbers, codes)
    assert prices.isnan().tolist() == [False, True, True, True, True, False]
