"""soften: any captured network as a module with soft codes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maxaffine._capture import SplineNetwork, capture
from maxaffine._curvature.code import Shared, SoftCode
from maxaffine._curvature.forms import FORMS
from maxaffine._curvature.network import SoftNetwork
from maxaffine._graph import NEVER_SWITCHES, BatchAxis, OperatorRecord, Rebuilt, Step
from maxaffine._network import Sources
from maxaffine.errors import BadInput, NotPiecewiseAffine, ShapeMismatch

TRAINABLE = (False, True, "operator", "channel")
STAYS_HARD = "leave it hard: name the operators to soften in operators="


def soften(
    model: nn.Module | SplineNetwork,
    beta: float | Tensor | Mapping[str, float | Tensor],
    form: str = "mixed",
    operators: Sequence[str] | None = None,
    *,
    mix: float = 0.5,
    trainable: bool | str = False,
    example: Any = None,
) -> SoftNetwork:
    r"""A network with soft codes: every unit weighs its pieces, where it took the largest.

    An operator with the pieces z_r has the value max_r z_r. With t = softmax(beta/(1 - beta) z) and g = 1/(1 - beta)

    .. math:: \text{expected: } \sum_r t_r z_r, \qquad \text{energy: } \tfrac1g \log \sum_r e^{g z_r}, \qquad
        \text{mixed: } c \cdot \text{expected} + (1 - c) \cdot \text{energy}.

    For ReLU these are x sigmoid(beta x/(1 - beta)), the scaled softplus, and curvature tuning's mixture of both. With
    beta = 1 it is the network itself, the same operators; at beta = 0 the expected form is the mean of the pieces. An
    operator that is not convex (ReLU6, hardtanh, min, softshrink) is the difference of two max-affine splines, each of
    which is softened: of its kinks that turn upwards, and of those that turn downwards. It is the smallest such
    difference, for the two have no kink in common; where what is affine goes makes no difference.

    Args:
        model: A captured network, also a smooth one, whose gated operators stay as they are; or a module, with
            ``example``.
        beta: In [0, 1]: one number, or one per channel (K,), the axis after the samples; or a dict of them by operator,
            which softens only these.
        form: ``"expected"``, ``"energy"`` or ``"mixed"``.
        operators: Names of the operators to soften, as in ``net.operators``; all by default.
        mix: The share c of the expected form in the mixed one.
        trainable: Whether beta (and c, of the mixed form) is a parameter: one for all (True), one per
            ``"operator"``, or one per ``"channel"`` of each. beta then stays inside (0, 1); start e.g. at 0.8.
        example: Inputs to capture a module with.

    Returns:
        A module with its own copy of the weights, which can be trained, moved, exported and saved.

    Raises:
        BadInput: For a beta outside [0, 1], an unknown operator, form or combination, or a network without
            piecewise-affine operators, or whose parameters capture cannot find again.
        ShapeMismatch: When there is not one beta for each channel.
        NotPiecewiseAffine: For an operator that has no soft form, such as a comparison: it jumps.

    Example:
        >>> import torch
        >>> from maxaffine import curvature
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Hardtanh())
        >>> soft = curvature.soften(model, 0.5, form="expected", example=torch.zeros(1, 2))
        >>> soft
        SoftNetwork: 2 operators with soft codes (expected form), 9 parameters
          operator  kind      beta
          1         relu       0.5
          2         hardtanh   0.5
        >>> soft.load_state_dict(model.state_dict())
        <All keys matched successfully>

    Source: Balestriero and Baraniuk, From Hard to Soft (ICLR 2019, arXiv 1810.09274), for the forms; Hu, Gamba and
    Balestriero, Curvature Tuning (NeurIPS 2025, arXiv 2502.07783), for the mixture and its one beta.
    """
    net = captured(model, example)
    _check_options(form, mix, trainable)
    records = {record.name: record for record in net.operators if record.pieces > 1 and not record.held}
    if not records:
        raise BadInput("model: it has no piecewise-affine operator, so there is no curvature in it to change")
    wanted = _wanted(beta, operators, records)
    codes, shared, first = {}, None, None
    with torch.inference_mode(False):  # whose tensors could not be trained
        for step in net.graph.steps:
            name = step.records[0].name if step.records else ""
            if name not in wanted:
                continue
            given = _checked(wanted[name], records[name], step, net, trainable)
            first = given if first is None else first
            if trainable is True and given != first:
                raise BadInput("beta: it differs from operator to operator, and trainable=True is one; give 'operator'")
            if trainable and (shared is None or trainable is not True):
                raw = torch.as_tensor(given, dtype=_wide(net, step), device=net.inputs.device)
                shared = Shared(raw, mix if form == "mixed" else None)
            code = _code(net, step, given, form, mix, shared)
            if code is not None:
                codes[name] = code
        return SoftNetwork(net, codes, _sources(net))


def captured(model: nn.Module | SplineNetwork, example: Any) -> SplineNetwork:
    """The network of a module and an example, or the one that is given."""
    if isinstance(model, SplineNetwork):
        if example is not None:
            raise BadInput("example: the network is captured already; leave it out")
        return model
    if not isinstance(model, nn.Module):
        raise BadInput(f"model: expected a module or a captured network, got {type(model).__name__}")
    if example is None:
        raise BadInput("example: a module is captured first; give a batch of its inputs, example=x")
    return capture(model, example)


def _check_options(form: str, mix: float, trainable: bool | str) -> None:
    if form not in FORMS:
        raise BadInput(f"form: expected one of {', '.join(map(repr, FORMS))}, got {form!r}")
    if trainable not in TRAINABLE:
        raise BadInput(f"trainable: expected one of {TRAINABLE}, got {trainable!r}")
    if not 0 <= mix <= 1 or trainable and form == "mixed" and mix in (0, 1):
        inside = "; one that is trained starts inside" if trainable else ""
        raise BadInput(f"mix: {mix} is not a share between 0 and 1{inside}")


def _wanted(beta: Any, operators: Sequence[str] | None, known: Mapping[str, OperatorRecord]) -> dict[str, Any]:
    """What beta each operator is to have, by name."""
    argument, names = "operators", [operators] if isinstance(operators, str) else operators
    if isinstance(beta, Mapping):
        if names is not None:
            raise BadInput("operators: beta is a dict, which names the operators already; leave it out")
        argument, names = "beta", list(beta)
    names = list(known) if names is None else list(names)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise BadInput(f"{argument}: {unknown} are not piecewise-affine operators here; there are {sorted(known)}")
    return dict(beta) if isinstance(beta, Mapping) else dict.fromkeys(names, beta)


def _checked(
    beta: Any, record: OperatorRecord, step: Step, net: SplineNetwork, trainable: bool | str
) -> float | Tensor:
    """A beta as a number, or as a tensor of one per channel, in the network's floating type."""
    if not isinstance(beta, Tensor | float | int):
        raise BadInput(f"beta: expected numbers in [0, 1], got {type(beta).__name__} for {record.name!r}")
    given = torch.as_tensor(beta, dtype=_wide(net, step), device=net.inputs.device).detach()
    inside = (given > 0) & (given < 1) if trainable else (given >= 0) & (given <= 1)
    if not bool(inside.all()):
        where = "strictly between 0 and 1, for it is trained" if trainable else "in [0, 1]"
        raise BadInput(f"beta: {beta} for {record.name!r} is not {where}; 1 is the network itself, 0 the softest")
    if given.dim() and trainable in (True, "operator"):
        raise BadInput(f"beta: one per channel for {record.name!r}, but trainable={trainable!r}; give 'channel'")
    if given.dim() == 0 and trainable != "channel":
        return float(beta)
    axis, units = net.graph.values[step.result].batch, record.units
    if not units or axis != BatchAxis():
        raise BadInput(
            f"beta: {record.name!r} has no axis of channels after its samples, so it takes one number; name the"
            " others in operators="
        )
    if given.dim() and given.shape != units[:1]:
        raise ShapeMismatch(
            f"beta: shape {tuple(given.shape)}, but {record.name!r} has {units[0]} channels (its units are {units});"
            f" give ({units[0]},), or a dict with a beta for each operator"
        )
    return given.expand(units[0]).clone()


def _wide(net: SplineNetwork, step: Step) -> torch.dtype:
    """The type of an operator's values, and single precision for those of 16 bits."""
    dtype = net.graph.values[step.result].dtype
    return torch.float32 if dtype is None or dtype.itemsize < 4 else dtype


def _code(
    net: SplineNetwork, step: Step, beta: float | Tensor, form: str, mix: float, trained: Shared | None
) -> SoftCode | None:
    """The soft code of an operator; None where there is nothing to soften."""
    record, live = step.records[0], Rebuilt(step.operator, len(step.inputs))
    code = SoftCode(record, live, form, beta, mix, trained)
    if code.identity:
        return code
    reason = step.operator.hard()
    if reason == NEVER_SWITCHES:
        return None
    used = {number for other in net.graph.steps for number in other.inputs} | set(net.graph.outputs)
    if not reason and any(number in used for number in step.outputs[1:]):
        reason = "the network uses which piece wins (its indices), and that jumps"
    if reason:
        raise NotPiecewiseAffine(record.name, f"no soft form: {reason}", STAYS_HARD, record.module_path, record.source)
    return code


def _sources(net: SplineNetwork) -> Sources:
    if net.sources is None:
        raise BadInput(
            "model: the network has lost where its parameters come from (by .double(), or a file of an older version);"
            " soften the network as captured, and call .double() on the result"
        )
    if net.sources.lost:
        raise BadInput(
            f"model: capture cannot find its parameter {net.sources.lost[0]!r} in the network again: a rule of your own"
            " keeps it where it is not seen, such as a closure. Keep it as a field of the operator, or among the"
            " arguments of call.affine()"
        )
    return net.sources
