"""The early bird against signs taken by hand, and in the loops of Lightning and Hugging Face."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import Trainer as HuggingTrainer
from transformers import TrainingArguments

from maxaffine.errors import BadInput
from maxaffine.huggingface import EarlyBirdTrainerCallback
from maxaffine.models import build
from maxaffine.pruning import EarlyBird
from tests.pruning.planted import cnn, mlp

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lightning.pytorch import LightningModule, Trainer

    from maxaffine.lightning import EarlyBirdCallback

X = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def moved(model: Any, step: int) -> Any:
    """The network after some training: its batch-norm shifted, less and less."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[1].bias += 0.5 * 0.4**step
    return other


def test_distances_are_those_of_the_signs() -> None:
    moments = [moved(cnn(), step) for step in range(6)]
    first = EarlyBird(X)
    for moment in moments:
        first.record(moment)
    largest = [max(one) for one in first.distances[3:]]
    threshold = (min(largest) + max(largest)) / 2
    bird = EarlyBird(X, threshold)
    settled = [bird.record(moment) for moment in moments]
    signs = [moment[:2](X) > 0 for moment in moments]
    for epoch in range(6):
        expected = [float((signs[epoch] != signs[k]).double().mean()) for k in range(max(0, epoch - 3), epoch)]
        assert bird.distances[epoch] == pytest.approx(tuple(expected))
    below = [one < threshold for one in largest]
    assert any(below) and not all(below)
    assert settled == [False] * 3 + [any(below[: epoch + 1]) for epoch in range(3)]
    assert bird.settled_at == 4 + below.index(True)
    assert repr(bird) == f"EarlyBird(6 epochs, settled after epoch {bird.settled_at})"


def test_layers_count_alike_and_the_model_is_left_alone() -> None:
    model: Any = build("resnet", (1, 6, 6), 2, seed=0, width=4, blocks=(1, 1)).double()
    before, mode, rng = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()], torch.get_rng_state()
    bird = EarlyBird(X)
    bird.record(model)
    with torch.no_grad():
        model[1].bias += 1
    bird.record(model)
    with torch.no_grad():
        model[1].bias -= 1
    assert torch.equal(rng, torch.get_rng_state()) and mode == [m.training for m in model.modules()]
    assert all(torch.equal(before[name], item) for name, item in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())
    seen: list[Tensor] = []
    norms = [m for m in copy.deepcopy(model).eval().modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) > 4 and not seen and 0 < bird.distances[1][0] < 1


def test_without_batch_norm_the_pieces_count() -> None:
    bird, model = EarlyBird(torch.rand(20, 3, dtype=torch.float64), epochs=1), mlp()
    assert not bird.record(model)
    with torch.no_grad():
        model[0].weight.neg_()
        model[0].bias.neg_()
    bird.record(model)
    assert bird.distances[1][0] > 0.4


def test_a_canvas_is_the_same_each_time() -> None:
    state = torch.get_rng_state()
    assert torch.equal(EarlyBird.canvas((2, 3), 5), EarlyBird.canvas((2, 3), 5))
    assert torch.equal(state, torch.get_rng_state()) and EarlyBird.canvas((2, 3), 5, seed=1).shape == (5, 2, 3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: EarlyBird(X[:0]), "x: it holds no input"),
        (lambda: EarlyBird(X, threshold=0.0), "threshold"),
        (lambda: EarlyBird(X, epochs=0), "epochs"),
        (lambda: EarlyBird(X * torch.nan).record(cnn()), "not finite"),
    ],
)
def test_bad_input(call: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        call()


def test_another_network_is_refused() -> None:
    bird = EarlyBird(X)
    bird.record(cnn())
    with pytest.raises(BadInput, match="start a new EarlyBird"):
        bird.record(build("resnet", (1, 6, 6), 2, seed=0, width=4, blocks=(1,)).double())


LABELS = torch.arange(40) % 3


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.epochs = cnn(), 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def on_train_epoch_start(self) -> None:
        self.epochs += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("stop", "epochs"), [(True, 4), (False, 6)])
def test_lightning_stops(stop: bool, epochs: int, tmp_path: Path) -> None:
    module, bird = Classifier(), EarlyBird(X)
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options |= {"enable_model_summary": False, "accelerator": "cpu", "default_root_dir": tmp_path}
    trainer = Trainer(max_epochs=6, callbacks=[EarlyBirdCallback(bird, "net", stop)], **options)
    trainer.fit(module, DataLoader(TensorDataset(X, LABELS), batch_size=20))
    assert module.epochs == epochs and bird.settled_at == 4
    with pytest.raises(BadInput, match="has no 'body'"):
        EarlyBirdCallback(bird, "body").on_train_epoch_end(trainer, module)


class Named(nn.Module):
    """With the loss in its outputs, as models of transformers have."""

    def __init__(self) -> None:
        super().__init__()
        self.net = cnn()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"logits": logits} | ({} if labels is None else {"loss": F.cross_entropy(logits, labels)})


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_stops(tmp_path: Path) -> None:
    bird = EarlyBird({"x": X})
    rows = [{"x": x, "labels": y} for x, y in zip(X, LABELS, strict=True)]
    arguments = TrainingArguments(
        str(tmp_path),
        num_train_epochs=6,
        learning_rate=1e-4,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = HuggingTrainer(Named(), arguments, train_dataset=rows, callbacks=[EarlyBirdTrainerCallback(bird)])
    trainer.train()
    assert trainer.state.epoch == 4 and bird.settled_at == 4
