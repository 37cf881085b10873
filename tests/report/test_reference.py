"""The module's own values, wherever a captured network stops."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from maxaffine._report.subject import Reference
from maxaffine.errors import BadInput


def test_one_of_several_outputs_by_its_name() -> None:
    model = Ends(lambda y: {"logits": y, "aux": {"twice": 2 * y}})
    x = torch.randn(2, 4)
    assert torch.equal(Reference(model, output="aux.twice")(x), 2 * model.linear(x))


class Ends(nn.Module):
    """A linear layer and what follows it."""

    def __init__(self, end: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.end = end

    def forward(self, x: Tensor) -> object:
        return self.end(self.linear(x))


@pytest.mark.parametrize(
    "end",
    [
        nn.Softmax(1),
        nn.LogSoftmax(1),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.LogSigmoid(),
        torch.sigmoid,
        torch.tanh,
        lambda z: z.softmax(-1),
        lambda z: torch.softmax(input=z, dim=1),
        lambda z: nn.functional.log_softmax(z, 1),
        lambda z: torch.tanh(z.sigmoid() * 0 + z),
    ],
)
def test_before_the_final_activation(end: Callable[[Tensor], object]) -> None:
    model, x = Ends(end), torch.rand(5, 4)
    torch.testing.assert_close(Reference(model, output="pre_activation")(x), model.linear(x))


def test_before_several_final_activations() -> None:
    model, x = Ends(lambda z: {"a": z.softmax(1), "b": (2 * z).tanh()}), torch.rand(5, 4)
    found = Reference(model, output="pre_activation")(x)
    torch.testing.assert_close(found, {"a": model.linear(x), "b": 2 * model.linear(x)})


def test_before_the_final_activation_of_an_exported_program() -> None:
    model, x = Ends(nn.Softmax(1)).eval(), torch.rand(5, 4)
    program = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(Reference(program, output="pre_activation")(x), model.linear(x))


def test_other_endings_have_nothing_before_them() -> None:
    model = Ends(lambda z: 2 * z.softmax(1))
    with pytest.raises(BadInput, match="pre_activation"):
        Reference(model, output="pre_activation")(torch.rand(1, 4))


def test_gradients_flow_through() -> None:
    model, x = Ends(nn.Softmax(1)), torch.rand(1, 4, requires_grad=True)
    for reference in (Reference(model, output="pre_activation"), Reference(model, until="linear")):
        (gradient,) = torch.autograd.grad(reference(x)[0, 1], x)
        torch.testing.assert_close(gradient[0], model.linear.weight[1].detach())


def test_behind_a_module_whose_value_is_overwritten() -> None:
    model, x = Ends(nn.ReLU(inplace=True)), torch.randn(20, 4)
    torch.testing.assert_close(Reference(model, until="linear")(x), model.linear(x))


def test_behind_the_last_call_of_a_module() -> None:
    linear, relu = nn.Linear(4, 4), nn.ReLU()
    x = torch.randn(20, 4)
    reference = Reference(nn.Sequential(relu, linear, relu, nn.Softmax(1)), until="0")
    torch.testing.assert_close(reference(x), linear(x.relu()).relu())


def test_hooks_go_even_after_a_failure() -> None:
    def fail(z: Tensor) -> Tensor:
        raise RuntimeError("broken")

    model = Ends(fail)
    with pytest.raises(RuntimeError, match="broken"):
        Reference(model, until="linear")(torch.rand(1, 4))
    assert not model.linear._forward_hooks


def test_unknown_and_unused_modules_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(BadInput, match="'1' is not a module .* 1 modules"):
        Reference(model, until="1")
    spare = Ends(nn.ReLU())
    spare.spare = nn.ReLU()
    with pytest.raises(BadInput, match="'spare' is not called"):
        Reference(spare, until="spare")(torch.rand(1, 4))
