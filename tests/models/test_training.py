import os
import signal
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from maxaffine._models import accuracy, build, train
from maxaffine.errors import BadInput, ModelError


@dataclass
class Data:
    inputs: torch.Tensor
    labels: torch.Tensor


def blobs(seed=0, count=90) -> Data:
    """Three well-separated classes of 1 x 4 x 4 images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    inputs = 0.3 * torch.rand(count, 1, 4, 4, generator=generator)
    inputs[:, 0, 0] += torch.eye(4)[labels] * 0.7
    return Data(inputs=inputs, labels=labels)


def small(seed=0) -> nn.Module:
    return build("cnn", (1, 4, 4), 3, seed=seed, channels=(4,), hidden=8)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class Interrupted(nn.Module):
    """Raises Ctrl-C in a chosen forward call of training."""

    def __init__(self, model: nn.Module, at: int):
        super().__init__()
        self.model, self.at, self.calls = model, at, 0

    def forward(self, x):
        self.calls += self.training
        if self.calls == self.at:
            raise KeyboardInterrupt
        return self.model(x)


def test_what_follows_an_epoch_sees_its_weights_and_changes_nothing():
    plain, watched = small(), small()
    train(plain, blobs(), epochs=3, batch_size=16)
    seen = []

    def look(epoch) -> None:
        assert watched.training
        seen.append((epoch, weights(watched)))
        watched.eval()

    result = train(watched, blobs(), epochs=3, batch_size=16, after_epoch=look)
    assert [epoch for epoch, _ in seen] == list(result.history)
    assert not same(seen[0][1], seen[1][1]) and same(weights(plain), weights(watched))
    assert result.best_epoch is not None and same(seen[result.best_epoch - 1][1], weights(watched))


def test_it_learns_and_reports_each_epoch():
    model = small()
    result = train(model, blobs(), epochs=12, batch_size=16, lr=0.01, validation=blobs(1))
    assert [epoch.number for epoch in result.history] == list(range(1, 13))
    assert result.history[-1].loss < 0.5 * result.history[0].loss
    assert all(epoch.seconds > 0 for epoch in result.history)
    assert (result.interrupted, result.checkpoint) == (False, None)
    assert accuracy(model, blobs(1)) == max(epoch.validation_accuracy or 0 for epoch in result.history) > 0.95
    assert not any(module.training for module in model.modules())
    assert all(weight.grad is None for weight in model.parameters())
    assert all(weight.is_contiguous() for weight in model.parameters())


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator():
    def trained(seed):
        model = nn.Sequential(small(), nn.Dropout(0.2))
        train(model, blobs(), epochs=2, batch_size=16, seed=seed)
        return weights(model)

    before = torch.get_rng_state()
    first, again, other = trained(0), trained(0), trained(1)
    assert torch.equal(before, torch.get_rng_state())
    assert same(first, again)
    assert not same(first, other)


def test_the_best_epoch_by_validation_is_kept():
    validation = blobs(1)
    validation.labels = (validation.labels + 1) % 3  # the longer the training, the worse on these wrong labels
    model, after_each_epoch = small(), []

    def keep(module, arguments, output):
        if not module.training and len(output) == len(validation.labels):
            after_each_epoch.append(weights(module))

    model.register_forward_hook(keep)
    result = train(model, blobs(), epochs=6, batch_size=16, lr=0.02, validation=validation)
    scores = [epoch.validation_accuracy or 0.0 for epoch in result.history]
    best = scores.index(max(scores))
    assert result.best_epoch == best + 1 < 6
    assert same(weights(model), after_each_epoch[best])
    assert not same(weights(model), after_each_epoch[-1])


def test_without_validation_the_lowest_loss_is_best():
    result = train(small(), blobs(), epochs=4, batch_size=16)
    losses = [epoch.loss for epoch in result.history]
    assert result.best_epoch == 1 + losses.index(min(losses))
    assert all(epoch.validation_accuracy is None for epoch in result.history)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_ctrl_c_keeps_the_best_checkpoint(tmp_path, suffix):
    path = tmp_path / f"best{suffix}"
    batches = 6  # 90 rows in batches of 16
    model = Interrupted(small(), at=3 * batches + 2)
    result = train(model, blobs(), epochs=10, batch_size=16, checkpoint=path)
    assert result.interrupted
    assert len(result.history) == 3
    assert result.best_epoch == 3
    assert result.checkpoint == path
    assert not any(module.training for module in model.modules())
    twin = Interrupted(small(), at=-1)
    state = safetensors.torch.load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True)
    twin.load_state_dict(state)
    assert same(weights(model), weights(twin))
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_before_the_first_epoch_ends_keeps_the_weights_of_that_moment(tmp_path):
    path = tmp_path / "early.pt"
    start = weights(small())
    model = Interrupted(small(), at=4)
    result = train(model, blobs(), epochs=2, batch_size=16, checkpoint=path)
    assert (result.interrupted, result.history, result.best_epoch) == (True, (), None)
    assert not same(start, weights(model.model))
    assert same(weights(model), list(torch.load(path, weights_only=True).values()))


def test_a_real_sigint_is_what_is_meant():
    class Signaled(Interrupted):
        def forward(self, x):
            self.calls += self.training
            if self.calls == self.at:
                os.kill(os.getpid(), signal.SIGINT)
            return self.model(x)

    result = train(Signaled(small(), at=8), blobs(), epochs=3, batch_size=16)
    assert result.interrupted
    assert len(result.history) == 1


def test_the_generator_and_the_layout_are_given_back_after_ctrl_c():
    before = torch.get_rng_state()
    model = Interrupted(small(), at=3)
    train(model, blobs(), epochs=1, batch_size=16)
    assert torch.equal(before, torch.get_rng_state())
    assert all(weight.is_contiguous() for weight in model.parameters())


def test_a_failing_write_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    train(small(), blobs(), epochs=1, checkpoint=path)
    content = path.read_bytes()

    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="no space left"):
        train(small(1), blobs(), epochs=1, checkpoint=path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_can_be_shared_like_any_file(tmp_path):
    path = tmp_path / "best.safetensors"
    train(small(), blobs(), epochs=1, checkpoint=path)
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("name", ["best.onnx", "absent/best.pt", "."])
def test_an_impossible_checkpoint_is_refused_before_training(tmp_path, name):
    model = small()
    start = weights(model)
    with pytest.raises(BadInput, match="checkpoint"):
        train(model, blobs(), epochs=1, checkpoint=tmp_path / name)
    assert same(start, weights(model))


def test_a_last_batch_of_one_joins_the_batch_before():
    sizes = []
    model = small()
    model.register_forward_hook(lambda module, args, output: sizes.append(len(output)) if module.training else None)
    train(model, blobs(count=33), epochs=1, batch_size=16)
    assert sorted(sizes) == [16, 17]


def test_a_loss_that_is_not_finite_is_an_error_and_the_model_is_left_usable():
    data = blobs()
    data.inputs[5] = float("nan")
    model = small()
    with pytest.raises(ModelError, match="lower lr"):
        train(model, data, epochs=1, batch_size=16)
    assert not model.training


def test_double_precision_models_are_trained_in_double_precision():
    model = small().double()
    train(model, blobs(), epochs=1)
    assert {weight.dtype for weight in model.parameters()} == {torch.float64}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_training_on_an_accelerator_keeps_its_generator_and_follows_the_seed():
    before = torch.cuda.get_rng_state()
    trained = []
    for _ in range(2):
        model = nn.Sequential(small(), nn.Dropout(0.2))
        train(model, blobs(), epochs=2, batch_size=16, device="cuda")
        trained.append(weights(model))
    assert torch.equal(before, torch.cuda.get_rng_state())
    assert all(value.is_cuda for value in trained[0])
    torch.testing.assert_close(trained[0], trained[1])


def test_progress_is_shown_when_asked_and_not_without_a_terminal(capfd):
    train(small(), blobs(), epochs=2)
    assert capfd.readouterr() == ("", "")
    train(small(), blobs(), epochs=2, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "epoch 2/2" in shown.err
    assert "loss=" in shown.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: 0"),
        ({"epochs": 1, "batch_size": 0}, "batch_size: 0"),
        ({"epochs": 1, "lr": float("nan")}, "lr: nan"),
        ({"epochs": 1, "device": "cuda:99"}, "device: cuda:99"),
        ({"epochs": 1, "device": "nowhere"}, "device: nowhere"),
        ({"epochs": 1, "seed": 2**64}, "seed: 18446744073709551616 is not a whole number below"),
        ({"epochs": 1, "seed": True}, "seed: True"),
        ({"epochs": 1, "checkpoint": f"{'x' * 300}.pt"}, "checkpoint: x+.pt cannot be written"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(BadInput, match=message):
        train(small(), blobs(), **options)


def test_data_that_the_model_cannot_take_is_refused():
    model, data = small(), blobs()
    with pytest.raises(BadInput, match=r"split: the model does not take inputs of shape \(1, 4, 4\)"):
        train(build("mlp", (9,), 3), data, epochs=1)
    with pytest.raises(BadInput, match=r"split: the model does not take .* \(expected 2D or 3D input"):
        train(nn.Sequential(nn.BatchNorm1d(1), nn.Flatten(), nn.Linear(16, 3)), data, epochs=1)
    with pytest.raises(BadInput, match="not .1, C. logits with C >= 3"):
        train(build("mlp", (1, 4, 4), 2), data, epochs=1)
    with pytest.raises(BadInput, match="model: it gives"):
        train(nn.Sequential(nn.Conv2d(1, 3, 1)), data, epochs=1)
    with pytest.raises(BadInput, match="validation: 90 inputs and 89 labels"):
        train(model, data, epochs=1, validation=Data(inputs=data.inputs, labels=data.labels[1:]))
    with pytest.raises(BadInput, match="requires a gradient"):
        train(small().requires_grad_(False), data, epochs=1)


def test_accuracy_keeps_the_mode_of_every_module():
    model = small().train()
    model.get_submodule("1").eval()
    before = [module.training for module in model.modules()]
    data = blobs()
    with torch.no_grad():
        right = (small().eval()(data.inputs).argmax(1) == data.labels).double().mean()
    assert accuracy(model, data, batch_size=7) == pytest.approx(float(right))
    assert [module.training for module in model.modules()] == before


def test_accuracy_leaves_what_the_module_counts_and_a_scripted_mode():
    counting = Interrupted(small(), at=-1)
    counting.calls = 3
    counting.register_forward_pre_hook(lambda *_: setattr(counting, "calls", counting.calls + 1))
    accuracy(counting, blobs())
    assert counting.calls == 3 and counting.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(small())
    accuracy(scripted, blobs())
    assert all(module.training for module in scripted.modules())


def test_checkpoint_path_may_be_text(tmp_path):
    result = train(small(), blobs(), epochs=1, checkpoint=str(tmp_path / "a.pth"))
    assert result.checkpoint == Path(tmp_path / "a.pth")
