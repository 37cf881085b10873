from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import maxaffine as ma
from maxaffine._models import mlp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lightning.pytorch import LightningModule, Trainer

    from maxaffine._learning.lightning import OrthogonalTemplatesCallback

pytestmark = pytest.mark.filterwarnings("ignore")
INPUTS = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 4
PENALTIES = (ma.learning.OrthogonalTemplates(0.3), ma.learning.OrthogonalTemplates(0.2, on="maps"))


class Classifier(LightningModule):
    def __init__(self, result: str = "loss") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = mlp((1, 8, 8), 4, widths=(12,))
        self.result = result
        self.batches = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = (batch["x"], batch["y"]) if isinstance(batch, dict) else batch
        self.batches += 1
        loss = F.cross_entropy(self(x), y)
        return {"loss": loss, "kept": 1} if self.result == "mapping" else None if self.result == "none" else loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def _fit(
    module: LightningModule, callback: Any, folder: Path, data: Any = None, more: Any = (), **options: Any
) -> Trainer:
    trainer = Trainer(
        max_epochs=2,
        callbacks=[callback, *more],
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, DataLoader(data or TensorDataset(INPUTS, LABELS), batch_size=4))
    return trainer


def _by_hand(penalty: Callable[..., Any], accumulate: int = 1, epochs: int = 2) -> nn.Sequential:
    model = Classifier().net
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for place, (x, y) in enumerate(zip(INPUTS.split(4), LABELS.split(4), strict=True)):
            ((F.cross_entropy(model(x), y) + penalty(model, x)) / accumulate).backward()
            if (place + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
    return model


def _last(model: nn.Sequential) -> Tensor:
    return [*model.parameters()][-2]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("on", ["classifier", "maps"])
@pytest.mark.parametrize("path", ["", "net"])
def test_trains_like_the_loop_by_hand(tmp_path: Path, path: str, on: str, accumulate: int) -> None:
    module = Classifier()
    penalty = ma.learning.OrthogonalTemplates(0.3, on=on)
    trainer = _fit(module, OrthogonalTemplatesCallback(penalty, path), tmp_path, accumulate_grad_batches=accumulate)
    expected = _by_hand(ma.learning.OrthogonalTemplates(0.3, on=on), accumulate)
    torch.testing.assert_close(dict(module.net.state_dict()), dict(expected.state_dict()))
    plain = _by_hand(ma.learning.OrthogonalTemplates(0.0), accumulate)
    assert not torch.allclose(_last(module.net), _last(plain), atol=1e-4)
    assert trainer.logged_metrics["orthogonal_templates"] > 0
    assert "training_step" not in module.__dict__ and module.batches == 4


def test_mixed_precision(tmp_path: Path) -> None:
    module = Classifier()
    _fit(module, OrthogonalTemplatesCallback(ma.learning.OrthogonalTemplates(0.3)), tmp_path, precision="bf16-mixed")
    expected = _by_hand(ma.learning.OrthogonalTemplates(0.3))
    torch.testing.assert_close(dict(module.net.state_dict()), dict(expected.state_dict()), rtol=0.05, atol=0.01)


def test_mappings_and_skipped_steps(tmp_path: Path) -> None:
    records = [{"x": x, "y": y} for x, y in zip(INPUTS, LABELS, strict=True)]
    module, penalty = Classifier("mapping"), ma.learning.OrthogonalTemplates(0.3)
    callback = OrthogonalTemplatesCallback(penalty, inputs=lambda batch: batch["x"], log_as=None)
    _fit(module, callback, tmp_path, records)
    torch.testing.assert_close(_last(module.net), _last(_by_hand(ma.learning.OrthogonalTemplates(0.3))))
    skipping = Classifier("none")
    before = copy.deepcopy(skipping.net.state_dict())
    _fit(skipping, OrthogonalTemplatesCallback(ma.learning.OrthogonalTemplates(0.3)), tmp_path)
    torch.testing.assert_close(dict(skipping.net.state_dict()), dict(before))


def test_the_training_step_is_given_back_after_an_error(tmp_path: Path) -> None:
    module = Classifier()
    callback = OrthogonalTemplatesCallback(ma.learning.OrthogonalTemplates(0.3), inputs=lambda batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _fit(module, callback, tmp_path)
    assert "training_step" not in module.__dict__
    own = module.training_step
    module.__dict__["training_step"] = own
    _fit(module, OrthogonalTemplatesCallback(ma.learning.OrthogonalTemplates(0.3)), tmp_path)
    assert module.__dict__["training_step"] is own


@pytest.mark.parametrize("wrapped", [False, True])
def test_several_penalties_add_up_and_all_of_them_go(tmp_path: Path, wrapped: bool) -> None:
    module = Classifier()
    own = module.training_step
    if wrapped:
        module.__dict__["training_step"] = own
    for _ in range(2):
        rows = OrthogonalTemplatesCallback(ma.learning.OrthogonalTemplates(0.3), "net", log_as=None)
        maps = OrthogonalTemplatesCallback(ma.learning.OrthogonalTemplates(0.2, on="maps"), "net", log_as=None)
        _fit(module, rows, tmp_path, more=[maps])
    expected = _by_hand(lambda model, x: sum(penalty(model, x) for penalty in PENALTIES), epochs=4)
    torch.testing.assert_close(dict(module.net.state_dict()), dict(expected.state_dict()))
    assert module.__dict__.get("training_step") == (own if wrapped else None)


def test_bad_input_is_named(tmp_path: Path) -> None:
    module = Classifier()
    with pytest.raises(ma.BadInput, match="module: the LightningModule has no 'head'"):
        _fit(module, OrthogonalTemplatesCallback(ma.learning.OrthogonalTemplates(0.3), "head"), tmp_path)
    module.automatic_optimization = False
    with pytest.raises(ma.BadInput, match="pl_module: it optimizes by hand"):
        _fit(module, OrthogonalTemplatesCallback(ma.learning.OrthogonalTemplates(0.3)), tmp_path)
