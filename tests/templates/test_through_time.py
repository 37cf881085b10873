"""Templates, states and codes through time, against networks unrolled by hand with their gates held."""

from __future__ import annotations

from typing import Any

import matplotlib
import pytest
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.testing import assert_close

import maxaffine as ma
from maxaffine.errors import BadInput, CaptureError
from maxaffine.learning import FromInitialState
from maxaffine.templates import ThroughTime
from tests.unrolled import gains, map_norms, unroll

matplotlib.use("agg")
BATCH, STEPS, INPUTS, HIDDEN, OUTPUTS = 3, 6, 2, 5, 4
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}
RELU: dict[str, Any] = {"nonlinearity": "relu"}


def sequences(seed: int = 0) -> Tensor:
    return torch.randn(BATCH, STEPS, INPUTS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Last(nn.Module):
    """A recurrent layer whose last output is read."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.rnn = kind(INPUTS, HIDDEN, batch_first=True, **options)
        read = (self.rnn.proj_size or HIDDEN) * (2 if self.rnn.bidirectional else 1)
        self.head = nn.Linear(read, OUTPUTS)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


KINDS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "rnn, two layers, both directions": (nn.RNN, {**RELU, "num_layers": 2, "bidirectional": True}),
    "lstm, two layers": (nn.LSTM, {"num_layers": 2}),
    "gru, both directions": (nn.GRU, {"bidirectional": True}),
}


def found_at(model: nn.Module, x: Any, **options: Any) -> ThroughTime:
    relu = isinstance(getattr(model, "rnn", None), nn.RNN) or not hasattr(model, "rnn")
    return ma.capture(model, x, smooth="refuse" if relu else "frozen").through_time(x, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_against_the_unrolled_network(kind: str) -> None:
    """Norms of templates and of the maps from every state, gains, codes and directions of each layer."""
    model = Last(KINDS[kind][0], **KINDS[kind][1])
    x = sequences().requires_grad_()
    states, walks = unroll(model.rnn, x)
    outputs = model.head(states[:, -1])
    assert_close(outputs, model(x), **EXACT)
    found = found_at(model, x.detach())
    assert len(found.layers) == len(walks)
    rows = [torch.autograd.grad(outputs[:, c].sum(), x, retain_graph=True)[0] for c in range(OUTPUTS)]
    assert_close(found.heard, torch.stack([row.norm(dim=2) for row in rows], 1), **EXACT)
    for place, (layer, walk) in enumerate(zip(found.layers, walks, strict=True)):
        assert layer.timed and not layer.begins
        assert layer.backward == (model.rnn.bidirectional and place % 2 == 1)
        assert_close(layer.reach, map_norms(outputs, walk.states), **EXACT)
        assert_close(layer.gains, gains(walk.states[0 if layer.backward else -1], walk.states), **EXACT)
        codes = next(iter(layer.codes.values()))
        assert torch.equal(codes.bool(), torch.stack(walk.codes, 1))
        flips = [sum((a != b).sum(1) for a, b in zip(q, q[1:], strict=False)) for q in [walk.codes]]
        assert (layer.switches.sum(1) >= flips[0]).all()


def test_projections_do_not_lead_on_to_the_next_layer() -> None:
    """In every layer the states are c_1 .. c_T, each with the gates and the norms of its own step."""
    model, x = Last(nn.LSTM, num_layers=3, proj_size=HIDDEN - 1), sequences()
    states = {}
    found = found_at(model, x)
    for layer in found.layers:
        assert layer.timed
        states[layer.name] = layer.reach
        assert {codes.shape for codes in layer.codes.values()} == {(BATCH, STEPS, HIDDEN)}
    assert [*states] == [f"rnn, layer {number}" for number in (1, 2, 3)]
    # The last state of the last layer is read alone: W_o W_hr D c_T, and D holds o_T and the slope held of tanh(c_T).
    assert (states["rnn, layer 3"] > 0).all()
    assert (found.layers[2].gains[:, -1] == 1).all()


class Loop(nn.Module):
    """A cell written by hand on the input beside the state, from a state that is given; the last state is read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.both = nn.Linear(INPUTS + HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, OUTPUTS)
        self.double()

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        for step in x.unbind(1):
            h = torch.relu(self.both(torch.cat([step, h], 1)))
        return self.head(h)


def test_a_cell_written_by_hand() -> None:
    """States, codes and the map from the initial state, against autograd of the same loop; the sum is the value."""
    model, x = Loop(), sequences()
    h_0 = torch.rand(BATCH, HIDDEN, generator=torch.Generator().manual_seed(3), dtype=torch.float64).requires_grad_()
    states, h = [], h_0
    for step in x.unbind(1):
        h = torch.relu(model.both(torch.cat([step, h], 1)))
        states.append(h)
    outputs = model.head(h)
    found = found_at(model, (x, h_0.detach()))
    (layer,) = found.layers
    assert layer.begins
    assert_close(layer.reach, map_norms(outputs, states), **EXACT)
    assert_close(layer.gains, gains(states[-1], states), **EXACT)
    assert torch.equal(layer.codes["relu"].bool(), torch.stack(states, 1) > 0)
    assert_close(found.initial_norms["x1"], map_norms(outputs, [h_0])[:, :, 0], **EXACT)
    initial = torch.einsum("nkh,nh->nk", found.initial["x1"], h_0)
    whole = found.positions.parts.sum(2) + initial + found.positions.offsets
    assert_close(whole, outputs, **EXACT)
    # Without the last factor the norms are others: the comparison can fail.
    assert not torch.allclose(layer.reach, map_norms(h[:, :OUTPUTS], states))


def test_from_the_initial_state_of_an_lstm() -> None:
    """h_0 and c_0 as inputs, from zeros or anything else: maps, values and gates as the unrolled network has them."""
    model, x = Last(nn.LSTM), sequences()
    whole = FromInitialState(model, x)
    assert whole.names == ("rnn.h_0", "rnn.c_0")
    assert [tuple(state.shape) for state in whole.inputs[1:]] == [(BATCH, 1, HIDDEN)] * 2
    generator = torch.Generator().manual_seed(4)
    given = [torch.randn(BATCH, 1, HIDDEN, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]
    inputs = (x, *(item.detach() for item in given))
    net = ma.capture(whole, whole.inputs, smooth="frozen")
    assert net.verify(whole, inputs).exact
    states, walks = unroll(model.rnn, x, given)
    outputs = model.head(states[:, -1])
    found = net.through_time(inputs)
    assert found.layers[0].begins
    assert_close(found.layers[0].reach, map_norms(outputs, walks[0].states), **EXACT)
    fronts = [item[:, 0] for item in given]
    again, _ = unroll(model.rnn, x, [item[:, None] for item in fronts])
    for norms, front in zip(found.initial_norms.values(), fronts, strict=True):
        assert_close(norms, map_norms(model.head(again[:, -1]), [front])[:, :, 0], **EXACT)


class Padded(nn.Module):
    """Sequences of unequal length, padded: the state at each one's last step is read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.rnn = nn.RNN(INPUTS, HIDDEN, batch_first=True, nonlinearity="relu")
        self.double()

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        states, _ = self.rnn(x)
        return states.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, HIDDEN))[:, 0]


def test_padding_is_unheard() -> None:
    """No output hears a step past the end of its sequence, and the result says so; packed sequences are refused."""
    model, lengths = Padded(), torch.tensor([6, 3, 5])
    inputs = (sequences(), lengths)
    found = found_at(model, inputs)
    for n, length in enumerate(lengths.tolist()):
        assert found.unheard[n, length:].all() and (found.layers[0].reach[n, :, length:] == 0).all()
        assert bool((found.heard[n, :, length - 1] > 0).any())
    assert "no output hears some steps at all" in repr(found) and "of sequence 1" in repr(found)

    class Packed(Padded):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.rnn(packed)[1][0]

    with pytest.raises(CaptureError, match="padded batch itself"):
        ma.capture(Packed(), inputs)


class Late(Last):
    """The same, taking time first, and so another axis for samples."""

    def __init__(self) -> None:
        super().__init__(nn.RNN, **RELU)
        self.rnn.batch_first = False


class Tied(nn.Module):
    """One layer applied to the whole sequence again and again."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.layer = nn.Linear(INPUTS, INPUTS).double()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(STEPS):
            x = self.layer(x).relu()
        return x.sum(1)


class Linear(nn.Module):
    """A linear recurrence."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.given, self.known = nn.Linear(INPUTS, HIDDEN).double(), nn.Linear(HIDDEN, HIDDEN).double()

    def forward(self, x: Tensor) -> Tensor:
        state = self.given(x[:, 0])
        for step in x.unbind(1)[1:]:
            state = self.given(step) + self.known(state)
        return state


def test_networks_without_recurrence() -> None:
    """Steps are positions alone; a recurrence too short to tell its states is none either."""
    x = sequences()
    convolution = nn.Sequential(nn.Conv1d(STEPS, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, OUTPUTS)).double()
    found = found_at(convolution, x)
    assert not found.layers and "no recurrence" in repr(found)
    assert_close(found.positions.parts.sum(2) + found.positions.offsets, convolution(x), **EXACT)
    with pytest.raises(CaptureError, match="takes time before samples: give it batch_first=True"):
        found_at(Late(), x)
    (tied,) = found_at(Tied(), x).layers  # as many states as steps, but over depth
    assert tied.reach.shape[2] == STEPS and not tied.timed and not tied.backward
    (linear,) = found_at(Linear(), x).layers  # a recurrence without a code
    assert not linear.codes and not linear.switches.any() and not linear.timed
    assert linear.gains.shape == (BATCH, STEPS - 1) and (linear.gains > 0).all()
    short = found_at(Last(nn.RNN, **RELU), x[:, :4])
    assert not short.layers and short.heard.shape == (BATCH, OUTPUTS, 4)


def test_pictures_and_words() -> None:
    """Figures, one against another output, notebooks and lists; bad places and axes are refused."""
    model, x = Last(nn.RNN, **RELU), sequences()
    net = ma.capture(model, x)
    found = net.through_time(x, names=["a", "b", "c", "d"])
    axes = found.plot(1, "b", against="d")
    titles = [one.get_title(loc="left") for one in axes.child_axes if isinstance(one, Axes)]
    assert len(titles) == 4 and "b over d" in titles[1]
    labels = [line.get_label() for line in found.plot(size=5.0).child_axes[2].lines]
    assert labels[:2] == ["template", "rnn"]
    html = found._repr_html_()
    assert "hears most of step" in html and "data:image/png" in html
    listed = found.to_dict()
    assert listed["layers"]["rnn"]["switches"] == found.layers[0].switches.tolist()
    assert "FromInitialState" in repr(found)
    with pytest.raises(BadInput, match=r"axis: one input has shape \(6, 2\), and so no axis 2"):
        net.through_time(x, axis=2)
    with pytest.raises(BadInput, match="input: 1"):
        net.through_time(x, input=1)
    with pytest.raises(BadInput, match="unit: 'e'"):
        found.plot(0, "e")
    with pytest.raises(BadInput, match="sample: 3"):
        found.plot(3)
    # Along the axis of channels there is no step of a layer: its states are counted as they run.
    assert not net.through_time(x, axis=1).layers[0].timed
