"""Which factor of a product carries and which is held, where both depend on the input.

f = u * v is affine in u with v held, and in v with u held: both are exact at the input, and they are different maps.
What is more of a gate is held: a softmax, a sigmoid or a reciprocal root before an exponential, before a gated unit,
before what a norm or a linear layer gives. A factor that is computed from the other gates it, as the step sizes and
the inputs of a selective state-space model do, unless that other is a gate by its kind. Two factors that are equally
much of a gate ask the user, whose choice is recorded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch

from maxaffine._capture.call import Call, Ref
from maxaffine._capture.registry import find_smooth
from maxaffine._graph import Dependence, Operator
from maxaffine.errors import BadInput

aten = torch.ops.aten

# The factors of products, by the names in the operators' schemas.
PRODUCTS: dict[object, tuple[str, str]] = {
    aten.mul.Tensor: ("self", "other"),
    aten.bmm.default: ("self", "mat2"),
    aten.mm.default: ("self", "mat2"),
    aten.addmm.default: ("mat1", "mat2"),
    aten.baddbmm.default: ("batch1", "batch2"),
    aten.matmul.default: ("self", "other"),
    aten.bilinear.default: ("input1", "input2"),
}
ATTEND = aten.scaled_dot_product_attention.default
# Whatever else is multiplied, the first of these carries wherever it depends on the input.
LED: dict[object, tuple[str, ...]] = {
    aten.linear.default: ("input", "weight"),
    aten.convolution.default: ("input", "weight"),
    aten.div.Tensor: ("self", "other"),
    ATTEND: ("value", "query", "key", "attn_mask"),
}
ATTENTION = "softmax(q* k*^T / sqrt(d)) v"
GATE = 0.8  # what is a gate by its kind: a softmax, a sigmoid, an exponential, a reciprocal
CLOSE = 0.02  # two factors that differ by less in how much of a gate they are ask

# Changes of shape and scalings: as much of a gate as what they take.
SHAPED = frozenset(
    """
    view reshape unsqueeze squeeze permute transpose expand slice select cat stack repeat split split_with_sizes unfold
    diagonal flip roll tril triu clone to_copy constant_pad_nd pad mean sum amax amin cumsum index gather index_select
    neg im2col col2im copy upsample_nearest2d upsample_bilinear2d mul div
    """.split()
)
# Of these, those that keep all entries: they have the name of what they take.
RESHAPED = frozenset("view reshape unsqueeze squeeze permute transpose expand to_copy".split())
BOUNDED = {"hardsigmoid": 1.0, "hardtanh": 1.0, "clamp": 1.0, "sign": 1.0, "relu": 0.4, "leaky_relu": 0.4}


@dataclass
class Gates:
    """The choices of one capture.

    Attributes:
        carriers: What the user said: the factor that carries, by the name of the product or a pattern of it.
        tangent: Whether smooth operators and products enter by their tangent instead.
        used: The names and patterns of products that were met.
        met: The names of the products in which both factors depend on the input, and about which nothing was said.
    """

    carriers: Mapping[str, str]
    tangent: bool = False
    used: set[str] = field(default_factory=set)
    met: set[str] = field(default_factory=set)

    def hold(self, call: Call, name: str, computed_from: Callable[[int, int], bool]) -> tuple[Call, str]:
        """A product with all factors but its carrier held.

        Args:
            call: The call.
            name: The operator's name in the network.
            computed_from: Whether the first of two values is computed from the second, by their numbers.

        Returns:
            The call, and why there is no map through it where two factors have equal claims; else nothing.

        Raises:
            BadInput: When the user named a factor that is none of this product's.
        """
        if call.target in LED:
            return self._lead(call), ""
        names = PRODUCTS.get(call.target)
        if names is None:
            return call, ""
        factors = [_ref(call, item) for item in names]
        pattern = next((item for item in self.carriers if name == item or fnmatchcase(name, item)), "")
        if pattern:
            return self._chosen(call, name, pattern, names, factors), ""
        first, second = factors
        if first is not None and second is not None:
            self.met.add(name)
        if first is None or second is None:
            return call, ""
        if not (first.affine and second.affine):  # where one carries, the other is a gate; else both go on as they are
            pairs = zip(names, (first, second), strict=True)
            gates = [item for item, ref in pairs if not ref.affine] if call.active else []
            return call.hold(*gates), ""
        if self.tangent:
            return call, ""
        for carrier, one, other in ((names[0], first, second), (names[1], second, first)):
            if one.gating < GATE and computed_from(origin_of(other), origin_of(one)):
                return call.hold(*(item for item in names if item != carrier)), ""
        carrier = names[first.gating > second.gating]
        close = first.number != second.number and abs(first.gating - second.gating) < CLOSE
        options = " and ".join(map(repr, _words(names, first, second)))
        question = f"it multiplies {options}, and either may carry with the other held" if close else ""
        return call.hold(*(item for item in names if item != carrier)), question

    def _lead(self, call: Call) -> Call:
        leader, *others = LED[call.target]
        ref = _ref(call, leader)
        # A dividend that waits for an answer is not a gate: it leads on to the product that asks, which is refused.
        if ref is not None and (ref.affine or ref.asks):
            return call if self.tangent else call.hold(*others)
        return call.hold(leader) if call.active and call.target is not ATTEND else call

    def _chosen(self, call: Call, name: str, pattern: str, names: tuple[str, str], factors: list[Ref | None]) -> Call:
        self.used.add(pattern)
        said = self.carriers[pattern]
        words = _words(names, *factors)
        carrier = [item for item, word in zip(names, words, strict=True) if said in (item, word)]
        if len(carrier) != 1:
            options = " or ".join(map(repr, words))
            raise BadInput(
                f"carrier: {said!r} is not a factor of {name!r}, which multiplies {options}; name one of them"
            )
        return call.hold(*(item for item in names if item != carrier[0]))


def gating(call: Call, operator: Operator) -> float:
    """How much of a gate the value of an operator is."""
    rule = find_smooth(call.target)
    if rule is not None and call.name != "aten.div":
        return rule.gating
    kind = call.kind
    bounds = [call.arguments.get(side) for side in ("min", "max")] if kind == "clamp" else []
    if kind in BOUNDED and None not in bounds:
        return BOUNDED[kind]
    ranks = [ref.gating for ref in call.refs if not ref.size and ref.value.dependence is not Dependence.CONSTANT]
    if not ranks:
        return 1.0
    if any(ref.held for ref in call.refs):  # a gated unit, or a quotient
        if kind != "div":
            return 0.1
        return max((ref.gating for ref in call.active), default=1.0)  # shares of a sum stay what they are
    if kind in ("add", "sub"):
        return min(ranks)
    return max(ranks) if kind in SHAPED else 0.8 * max(ranks)  # a linear map lowers it


def _ref(call: Call, name: str) -> Ref | None:
    """An argument that depends on the input, if it does."""
    item = call.arguments.get(name)
    dependent = (Dependence.AFFINE, Dependence.HELD, Dependence.REGION)
    return item if isinstance(item, Ref) and item.value.dependence in dependent else None


def origin_of(ref: Ref) -> int:
    """The number of what a value is a reshaping of."""
    return ref.number if ref.origin is None else ref.origin


def _words(names: tuple[str, str], *factors: Ref | None) -> tuple[str, ...]:
    """What the factors are called: by what computes them, or where that is one for both, by their place."""
    words = tuple(item if ref is None else ref.name or "the input" for item, ref in zip(names, factors, strict=True))
    return names if words[0] == words[1] else words
