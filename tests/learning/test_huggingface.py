"""The trainer of docs/orthogonal-templates.md against the loop by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import ResNetConfig, ResNetForImageClassification, TrainingArguments

import maxaffine as ma
from maxaffine._models import mlp
from tests.markdown import blocks

pytestmark = pytest.mark.filterwarnings("ignore")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "orthogonal-templates.md"
INPUTS = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 4
ROWS = [{"x": x, "labels": y} for x, y in zip(INPUTS, LABELS, strict=True)]


def _trainer_class() -> Any:
    (code,) = [b.code for b in blocks(PAGE.read_text(encoding="utf-8")) if "class OrthogonalTrainer" in b.code]
    namespace: dict[str, Any] = {"ma": ma, "F": F}
    exec(code, namespace)
    return namespace["OrthogonalTrainer"]


BASE = _trainer_class()


class InOrder(BASE):
    penalty = ma.learning.OrthogonalTemplates(0.5)

    def _get_train_sampler(self, *args: Any) -> SequentialSampler:
        return SequentialSampler(ROWS)


class OwnLoss(InOrder):
    """As the page words it for models that compute their loss."""

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(pixel_values=inputs["x"], labels=inputs["labels"])
        return outputs.loss + self.penalty(model, {"pixel_values": inputs["x"]})


class TakesMore(nn.Module):
    """With **kwargs in its forward, which the trainer takes for a model that divides its loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = mlp((1, 8, 8), 4, widths=(12,))

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.net(x)


def _fit(trainer: Any, model: nn.Module, folder: Path, accumulate: int = 1, steps: int = 4, **options: Any) -> Any:
    arguments: dict[str, Any] = {"save_strategy": "no", **options}
    settings = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=4 // accumulate,
        gradient_accumulation_steps=accumulate,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        label_names=["labels"],
        remove_unused_columns=False,
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        **arguments,
    )
    return trainer(model, settings, train_dataset=ROWS, eval_dataset=ROWS)


def _by_hand() -> nn.Module:
    model, penalty = TakesMore(), ma.learning.OrthogonalTemplates(0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        for x, y in zip(INPUTS.split(4), LABELS.split(4), strict=True):
            optimizer.zero_grad()
            (F.cross_entropy(model(x), y) + penalty(model, x)).backward()
            optimizer.step()
    return model


@pytest.mark.parametrize("accumulate", [1, 2])
def test_trains_like_the_loop_by_hand(tmp_path: Path, accumulate: int) -> None:
    model = TakesMore()
    _fit(InOrder, model, tmp_path, accumulate).train()
    torch.testing.assert_close(dict(model.state_dict()), dict(_by_hand().state_dict()))


def test_evaluation_tells_the_loss_without_the_penalty(tmp_path: Path) -> None:
    model = TakesMore()
    found = _fit(InOrder, model, tmp_path, eval_strategy="steps", eval_steps=1)
    found.train()
    expected = F.cross_entropy(model.eval()(INPUTS), LABELS).item()
    assert found.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    whole, halves = TakesMore(), TakesMore()
    _fit(InOrder, whole, tmp_path / "whole").train()
    _fit(InOrder, halves, tmp_path / "half", steps=2, save_strategy="steps", save_steps=2).train()
    again = TakesMore()
    _fit(InOrder, again, tmp_path / "half").train(resume_from_checkpoint=True)
    torch.testing.assert_close(dict(again.state_dict()), dict(whole.state_dict()))
    assert not torch.equal(*(model.state_dict()["net.1.weight"] for model in (halves, whole)))


def test_models_of_transformers_average_over_accumulated_steps(tmp_path: Path) -> None:
    found = []
    for accumulate in (1, 2):
        torch.manual_seed(0)
        shape: dict[str, Any] = {"num_channels": 1, "embedding_size": 4, "hidden_sizes": [4], "depths": [1]}
        model = ResNetForImageClassification(ResNetConfig(**shape, num_labels=4))  # pyright: ignore[reportCallIssue]
        for module in [*model.modules()]:
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):  # its statistics are those of a step's part of the batch
                    setattr(module, name, nn.Identity())
        _fit(OwnLoss, model, tmp_path, accumulate).train()
        found.append({name: item.detach() for name, item in model.named_parameters()})
    torch.testing.assert_close(*found)
