"""Noise on the initial state: where it enters, its penalty and its effect, against loops and Jacobians by hand."""

from __future__ import annotations

from typing import Any

import matplotlib
import pytest
import torch
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.testing import assert_close

from maxaffine.errors import BadInput
from maxaffine.learning import InitialStateNoise

matplotlib.use("agg")
BATCH, STEPS, INPUTS, HIDDEN, OUTPUTS = 4, 5, 2, 6, 3


def sequences() -> Tensor:
    return torch.randn(BATCH, STEPS, INPUTS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Last(nn.Module):
    """A recurrent layer whose last output is read, from a state that is given or not."""

    def __init__(self, kind: Any = nn.RNN, outputs: int = OUTPUTS, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(1)
        options = ({"nonlinearity": "relu"} if kind is nn.RNN else {}) | options
        self.rnn = kind(INPUTS, HIDDEN, batch_first=True, **options)
        self.head = nn.Linear(HIDDEN * (2 if self.rnn.bidirectional else 1), outputs)
        self.double()

    def forward(self, x: Tensor, hx: Any = None) -> Tensor:
        return self.head(self.rnn(x, hx)[0][:, -1])


class Cell(nn.Module):
    """A cell called in a loop over time; the first call begins at zeros that it makes itself."""

    def __init__(self, kind: Any = nn.RNNCell) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.cell = kind(INPUTS, HIDDEN)
        self.head = nn.Linear(HIDDEN, OUTPUTS)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Every(Last):
    """The outputs at every step."""

    def forward(self, x: Tensor, hx: Any = None) -> Tensor:
        return self.head(self.rnn(x, hx)[0])


def jacobian(model: Last, x: Tensor) -> Tensor:
    """A_h (N, C, S) by one Jacobian per sample, h_0 given as an argument; of an LSTM both states."""
    lstm, rows = isinstance(model.rnn, nn.LSTM), model.rnn.num_layers * (2 if model.rnn.bidirectional else 1)
    zero = x.new_zeros(rows, 1, HIDDEN)
    found = []
    for one in x.split(1):
        if lstm:
            parts = torch.autograd.functional.jacobian(lambda h, c, one=one: model(one, (h, c))[0], (zero, zero))
        else:
            parts = (torch.autograd.functional.jacobian(lambda h, one=one: model(one, h)[0], zero),)
        found.append(torch.cat([part.flatten(1) for part in parts], 1))
    return torch.stack(found)


@pytest.mark.parametrize("options", [{}, {"kind": nn.LSTM}, {"kind": nn.GRU, "num_layers": 2, "bidirectional": True}])
def test_penalty(options: dict[str, Any]) -> None:
    """Both formulas, sample by sample and entry by entry, from Jacobians of the module itself."""
    model, x, sigma = Last(**options), sequences(), 0.3
    rows, p = jacobian(model, x), model(x).softmax(1)
    entropy = squares = torch.zeros((), dtype=torch.float64)
    for a, q in zip(rows, p, strict=True):
        entropy = entropy + torch.trace(a.T @ (torch.diag(q) - torch.outer(q, q)) @ a)
        squares = squares + a.square().sum()
    noise = InitialStateNoise(sigma)
    scale = sigma**2 / (2 * BATCH)
    assert_close(noise.penalty(model, x), scale * entropy)
    assert_close(noise.penalty(model, x, nn.CrossEntropyLoss(label_smoothing=0.1)), scale * entropy)
    assert_close(noise.penalty(model, x, "half-squared-error"), scale * squares)
    assert_close(noise.penalty(model, x, nn.MSELoss()), 2 / OUTPUTS * scale * squares)
    double = 2 * torch.eye(OUTPUTS, dtype=torch.float64).expand(BATCH, -1, -1)
    twice = noise.penalty(model, x, "any", hessian=lambda _: double)
    assert_close(twice, 2 * scale * squares)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(noise.penalty(model, x), scale * entropy)


def test_penalty_is_live() -> None:
    """Its gradients by central differences; the module, its mode and the generator stay as they were."""
    model, x, noise = Last(), sequences(), InitialStateNoise(0.5)
    state = torch.random.get_rng_state()
    noise.penalty(model, x).backward()
    assert model.training and not model.rnn._forward_pre_hooks and torch.equal(state, torch.random.get_rng_state())
    for parameter in model.parameters():
        place, step = parameter.abs().argmax(), 1e-6
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[place] += sign * step
                values.append(noise.penalty(model, x))
                parameter.view(-1)[place] -= sign * step
        assert parameter.grad is not None
        assert_close(parameter.grad.view(-1)[place], (values[0] - values[1]) / (2 * step), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM])
def test_noise_enters_at_the_beginning(kind: Any) -> None:
    """What a layer gives with noise is what it gives from the state that the generator draws; nothing in evaluation."""
    model, x = Last(kind), sequences()
    with InitialStateNoise(0.2).attach(model):
        torch.manual_seed(5)
        noisy = model(x)
        torch.manual_seed(5)
        count = 2 if kind is nn.LSTM else 1
        drawn = tuple(0.2 * torch.randn(1, BATCH, HIDDEN, dtype=torch.float64) for _ in range(count))
        model.eval()
        state = torch.random.get_rng_state()
        plain = model(x)
        assert torch.equal(state, torch.random.get_rng_state())
    assert_close(noisy, model(x, drawn if count == 2 else drawn[0]), rtol=1e-12, atol=1e-12)
    assert_close(plain, model.train()(x), rtol=0, atol=0)
    # Of a state that the module gives, it is added to that.
    given = tuple(torch.ones_like(item) for item in drawn)
    with InitialStateNoise(0.2).attach(model):
        torch.manual_seed(5)
        moved = model(x, given if count == 2 else given[0])
    both = tuple(a + b for a, b in zip(given, drawn, strict=True))
    assert_close(moved, model(x, both if count == 2 else both[0]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [nn.GRUCell, nn.LSTMCell])
def test_noise_in_a_loop_of_cells(kind: Any) -> None:
    """The first call alone is moved, in every pass anew."""
    model, x = Cell(kind), sequences()
    with InitialStateNoise(0.2).attach(model):
        torch.manual_seed(6)
        first, second = model(x), model(x)
    torch.manual_seed(6)
    drawn = [0.2 * torch.randn(BATCH, HIDDEN, dtype=torch.float64) for _ in range(2 if kind is nn.LSTMCell else 1)]
    state: Any = tuple(drawn) if kind is nn.LSTMCell else drawn[0]
    for step in x.unbind(1):
        state = model.cell(step, state)
    assert_close(first, model.head(state[0] if isinstance(state, tuple) else state), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(first, second)


def test_noise_of_packed_sequences() -> None:
    """Packed sequences, and layers that take time before the samples."""
    rnn, x = nn.RNN(INPUTS, HIDDEN), sequences().float().transpose(0, 1)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 4, 2, 1]))
    with InitialStateNoise(0.2).attach(rnn):
        assert not torch.allclose(rnn(packed)[1], rnn(packed)[1])
        assert rnn(x)[1].shape == (1, BATCH, HIDDEN) and rnn(x[:, 0])[1].shape == (1, HIDDEN)


class Given(nn.Module):
    """Written by hand: the state is an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Linear(INPUTS + HIDDEN, HIDDEN).double()

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        for step in x.unbind(1):
            h = torch.relu(self.both(torch.cat([step, h], 1)))
        return h


@pytest.mark.parametrize(("argument", "inputs"), [("h", "mapping"), (1, "tuple")])
def test_an_argument(argument: str | int, inputs: str) -> None:
    """The initial state of a network written by hand, by name or by place."""
    model, x, h = Given(), sequences(), torch.ones(BATCH, HIDDEN, dtype=torch.float64)
    noise = InitialStateNoise(0.2, argument=argument)
    batch: Any = {"x": x, "h": h} if inputs == "mapping" else (x, h)
    rows = [
        torch.autograd.functional.jacobian(lambda s, n=n: model(x[n : n + 1], s)[0], h[n : n + 1]) for n in range(4)
    ]
    assert_close(noise.penalty(model, batch, "half-squared-error"), 0.02 / 4 * torch.stack(rows).square().sum())
    run = (lambda: model(**batch)) if inputs == "mapping" else (lambda: model(*batch))
    with noise.attach(model):
        noisy = run()
    assert not torch.allclose(noisy, run())
    with pytest.raises(BadInput, match="without a tensor for"):
        noise.penalty(model, x)


def test_effect_of_a_held_map() -> None:
    """Away from kinks the network is its map: nothing crosses, and its loss is the formula's within its error."""
    model = Last()
    with torch.no_grad():
        for name in ("bias_ih_l0", "bias_hh_l0"):
            getattr(model.rnn, name).fill_(20.0)
        model.head.weight.mul_(0.01)  # or the softmax would have no curvature left
    x, y = sequences(), torch.tensor([0, 1, 2, 0])
    found = InitialStateNoise(1.0).effect(model, x[:, :2], y, draws=200)
    assert abs(found.crossing) < 1e-9 * found.held
    assert abs(found.held - found.second_order) < 5 * found.held_error + 0.05 * found.second_order
    assert found.network_error > 0 and found.draws == 200


def test_effect_of_kinks() -> None:
    """At inputs of zero without biases every unit stands on its kink: the formula has nothing of the known mean."""
    # z = sum of relu(sigma xi) over the units: E z^2/2 = sigma^2/2 (m/2 + m (m - 1)/(2 pi)) for y = 0, one step.
    model = Last(outputs=1, bias=False)
    with torch.no_grad():
        dict(model.rnn.named_parameters())["weight_hh_l0"].copy_(torch.eye(HIDDEN))
        model.head.weight.fill_(1.0)
        model.head.bias.zero_()
    x, y, m = torch.zeros(1, 1, INPUTS, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), HIDDEN
    state = torch.random.get_rng_state()
    found = InitialStateNoise(0.5).effect(model, x, y, "half-squared-error", draws=400)
    assert torch.equal(state, torch.random.get_rng_state())
    expected = 0.25 / 2 * (m / 2 + m * (m - 1) / (2 * torch.pi))
    assert found.second_order == 0 and found.held == 0 and found.crossing_share == 1
    assert abs(found.network - expected) < 5 * found.network_error
    listed = found.to_dict()
    assert listed["crossing"] == found.crossing and "crossing share 100.0%" in repr(found)
    assert "second order (formula)" in found._repr_html_()
    assert [bar.get_height() for bar in found.plot().patches if isinstance(bar, Rectangle)] == [
        0,
        0,
        found.network,
        found.crossing,
    ]


def test_bad_input() -> None:
    """Numbers, losses and networks that have no answer, each with its cure."""
    model, x, noise = Last(), sequences(), InitialStateNoise(0.1)
    for sigma in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="sigma"):
            InitialStateNoise(sigma)
    for loss in (
        "hinge",
        nn.L1Loss(),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.CrossEntropyLoss(torch.ones(OUTPUTS)),
        nn.CrossEntropyLoss(ignore_index=0),
        torch.dist,
    ):
        with pytest.raises(BadInput, match=r"no second order is known.*give hessian="):
            noise.penalty(model, x, loss)
    with pytest.raises(BadInput, match="no nn.RNN"):
        noise.attach(nn.Linear(2, 2))
    with pytest.raises(BadInput, match="it returns a tuple"):
        noise.penalty(model.rnn, x)
    with pytest.raises(BadInput, match=r"not \(N, K\), a row for each sample"):
        noise.penalty(Every(), x)
    with pytest.raises(BadInput, match="y: 2 targets for 4 sequences"):
        noise.effect(model, x, torch.zeros(2, dtype=torch.long))
    with pytest.raises(BadInput, match="labels run from 0 to"):
        noise.effect(model, x, torch.full((BATCH,), OUTPUTS))
    for loss in ("half-squared-error", nn.MSELoss()):
        with pytest.raises(BadInput, match="one number for each"):
            noise.effect(model, x, torch.zeros(BATCH, OUTPUTS + 1, dtype=torch.float64), loss)
    with pytest.raises(BadInput, match="draws"):
        noise.effect(model, x, torch.zeros(BATCH, dtype=torch.long), draws=1)


class Windows(Last):
    """Cuts one sequence into two."""

    def forward(self, x: Tensor, hx: Any = None) -> Tensor:
        return self.head(self.rnn(x[:, :4].reshape(-1, 2, INPUTS), hx)[0][:, -1].reshape(len(x), 2, -1).sum(1))


def test_wrong_numbers_are_refused() -> None:
    """Targets of another second order than the formula's, states that are not one for each row, and no numbers."""
    model, x, noise = Last(), sequences(), InitialStateNoise(0.1)
    with pytest.raises(BadInput, match="y: some labels are below 0"):
        noise.effect(model, x, torch.tensor([0, 1, -100, 2]))
    with pytest.raises(BadInput, match="do not add up to 1"):
        noise.effect(model, x, torch.ones(BATCH, OUTPUTS))
    with pytest.raises(BadInput, match="y: 1 targets"):
        noise.effect(model, x, torch.tensor(1))
    noise.effect(model, x, torch.full((BATCH, OUTPUTS), 1 / OUTPUTS), draws=2)
    with pytest.raises(BadInput, match="single output is always 0"):
        noise.penalty(Last(outputs=1), x)
    with pytest.raises(BadInput, match="batch is empty"):
        noise.penalty(model, x[:0])
    with pytest.raises(BadInput, match="outputs have NaN"):
        noise.penalty(model, x * float("nan"))
    for count in (1, BATCH):
        with pytest.raises(BadInput, match=f"{2 * count} initial states belong to {count} rows"):
            noise.penalty(Windows(), x[:count])


class Alone(Last):
    """Takes one sequence without an axis of samples."""

    def forward(self, x: Tensor, hx: Any = None) -> Tensor:
        return self.head(self.rnn(x, hx)[0][-1])


def test_a_sequence_without_samples() -> None:
    with pytest.raises(BadInput, match="without an axis of samples"):
        InitialStateNoise(0.1).penalty(Alone(), sequences()[0], "half-squared-error")
