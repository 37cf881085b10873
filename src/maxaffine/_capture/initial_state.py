"""The initial state of recurrent layers: where a module takes it, and the module as a function of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from maxaffine._untouched import evaluating
from maxaffine.errors import BadInput

# From the module that takes a state, its name and the state to the state that it takes instead.
Change = Callable[[nn.Module, str, Tensor], Tensor]
Call = tuple[tuple[Any, ...], dict[str, Any]]


@contextmanager
def changed_states(model: nn.Module, change: Change, argument: str | int | None = None) -> Iterator[None]:
    """Change every initial state that a module takes in a pass: of its recurrent layers and cells, or an argument."""
    if not isinstance(model, nn.Module):
        raise BadInput(f"model: expected a torch.nn.Module, got {type(model).__name__}; give the model itself")
    kinds = (nn.RNNBase, nn.RNNCellBase)
    sites = [] if argument is not None else [item for item in model.named_modules() if isinstance(item[1], kinds)]
    if argument is None and not sites:
        raise BadInput(
            "model: it has no nn.RNN, nn.GRU, nn.LSTM or cell of theirs, so where its initial state enters is unknown;"
            ' let it be an argument of forward and name that one, e.g. argument="h_0"'
        )
    met: set[nn.Module] = set()
    # Once for the whole pass, before any layer in it, also where the model is itself such a layer.
    handles = [model.register_forward_pre_hook(lambda *_: met.clear())]
    if argument is not None:
        handles.append(model.register_forward_pre_hook(_argument_hook(argument, change), with_kwargs=True))
    for path, module in sites:
        handles.append(module.register_forward_pre_hook(_site_hook(path, change, met), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _site_hook(path: str, change: Change, met: set[nn.Module]) -> Callable[..., Any]:
    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        given = [*args, *kwargs.values()]
        x = kwargs.get("input", given[0] if given else None)
        state = args[1] if len(args) > 1 else kwargs.get("hx")
        # A state given to a later call of the pass is what an earlier one left: a cell in a loop over time.
        later = module in met
        met.add(module)
        if x is None or (later and state is not None):
            return args, kwargs
        words = [f"{path}." * bool(path) + letter for letter in ("h_0", "c_0")]
        states = _zeros(module, x) if state is None else state if isinstance(state, tuple) else (state,)
        fresh = tuple(change(module, word, item) for word, item in zip(words, states, strict=False))
        rest = {name: item for name, item in kwargs.items() if name not in ("input", "hx")}
        return (x, fresh if isinstance(module, nn.LSTM | nn.LSTMCell) else fresh[0]), rest

    return hook


def _argument_hook(argument: str | int, change: Change) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        found = kwargs.get(argument) if isinstance(argument, str) else args[argument] if argument < len(args) else None
        if not isinstance(found, Tensor):
            raise BadInput(
                f"argument: the model was called without a tensor for {argument!r}; call it with the initial state, by"
                " the name or the place that argument= says"
            )
        if isinstance(argument, str):
            return args, {**kwargs, argument: change(module, argument, found)}
        return (*args[:argument], change(module, f"argument {argument}", found), *args[argument + 1 :]), kwargs

    return hook


def _zeros(module: Any, x: Any) -> tuple[Tensor, ...]:
    """The zeros that a layer or cell begins with where it is given no state: h_0, and c_0 of an LSTM."""
    if isinstance(module, nn.RNNCellBase):
        shapes = [(*x.shape[:-1], module.hidden_size)] * 2
    else:
        rows = module.num_layers * (2 if module.bidirectional else 1)
        if isinstance(x, PackedSequence):
            count: tuple[int, ...] = (int(x.batch_sizes[0]),)
        else:
            count = () if x.dim() == 2 else (x.shape[0 if module.batch_first else 1],)
        shapes = [(rows, *count, size) for size in (module.proj_size or module.hidden_size, module.hidden_size)]
    like = x.data if isinstance(x, PackedSequence) else x
    return tuple(like.new_zeros(shape) for shape in shapes[: 2 if isinstance(module, nn.LSTM | nn.LSTMCell) else 1])


class FromInitialState(nn.Module):
    """A recurrent module as a function of its input and its initial states, so that `capture` has a map from them too.

    f(x, h_0) = A[x] x + A_h[x] h_0 + b[x]

    Args:
        model: A module with nn.RNN, nn.GRU, nn.LSTM or cells of theirs, whose states begin at zero or at what the
            module gives them. One that is written by hand takes its state as an argument: capture that as it is.
        x: An example: a tensor (N, ...) or a tuple of positional inputs, the samples in front.

    Attributes:
        names: Of the states, e.g. ``"rnn.h_0"``; of an LSTM ``"rnn.c_0"`` follows.
        inputs: The example and the states it begins with: what `capture` takes. The states have the samples in front:
            (N, layers x directions, hidden), or (N, hidden) of a cell.

    Raises:
        BadInput: When the module has no such layer.

    Example:
        >>> import maxaffine as ma
        >>> model = nn.RNNCell(2, 3, nonlinearity="relu")
        >>> whole = FromInitialState(model, torch.ones(4, 2))
        >>> whole.names, ma.capture(whole, whole.inputs).affine_map(whole.inputs).slopes[1].shape
        (('h_0',), torch.Size([4, 3, 3]))

    Source: Wang, Balestriero and Baraniuk, "A Max-Affine Spline Perspective of Recurrent Neural Networks" (ICLR 2019).
    """

    def __init__(self, model: nn.Module, x: Any) -> None:
        super().__init__()
        self.model = model
        given = tuple(x) if isinstance(x, tuple | list) else (x,)
        found: dict[str, Tensor] = {}

        def note(module: nn.Module, name: str, state: Tensor) -> Tensor:
            if name in found:
                raise BadInput(
                    f"model: {name!r} is begun more than once in a pass, so its initial state is not one input; give"
                    " each a layer of its own"
                )
            found[name] = _front(module, state)
            return state

        with torch.no_grad(), evaluating(model), changed_states(model, note):
            model(*given)
        self.names = tuple(found)
        self.inputs = (*given, *(state.clone() for state in found.values()))
        self.training = model.training  # parts of the module may be in another mode, and stay in it

    def forward(self, *items: Tensor) -> Any:
        """Run the module on its inputs, each layer from the state that is given for it."""
        count = len(items) - len(self.names)
        states = dict(zip(self.names, items[count:], strict=True))
        with changed_states(self.model, lambda module, name, _: _front(module, states[name], back=True)):
            return self.model(*items[:count])


def _front(module: nn.Module, state: Tensor, back: bool = False) -> Tensor:
    """The state of a layer (layers, N, hidden) with its samples in front; of a cell they are."""
    if isinstance(module, nn.RNNCellBase):
        return state
    if state.dim() != 3:
        raise BadInput("x: the layer was given a sequence without an axis of samples; add one, x.unsqueeze(0)")
    return state.movedim(0, 1).contiguous() if back else state.movedim(1, 0)
