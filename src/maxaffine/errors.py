"""Every exception that maxaffine raises on purpose, and what is quoted of others.

Each message names the argument, the cause and the cure.
"""

__all__ = [
    "BadInput",
    "CaptureError",
    "DataError",
    "ExactnessError",
    "MaxAffineError",
    "ModelError",
    "NotPiecewiseAffine",
    "PartitionError",
    "ShapeMismatch",
]

SHOWN = 6  # numbers of a place that are written out


def first_line(error: BaseException) -> str:
    """What an error says, without what follows it; its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class MaxAffineError(Exception):
    """Base class: catch it to catch every error that the library raises on purpose."""


class NotPiecewiseAffine(MaxAffineError):
    """An operator of the network has no exact piecewise-affine form, or none that is known: nothing is approximated.

    Args:
        operator: Name of the operator, e.g. ``aten.gelu.default``.
        reason: Why it was refused.
        cure: What the user can do about it.
        module_path: Dotted path of the module that called the operator, empty for the root module.
        source: Source line of the call, when it is known.
    """

    def __init__(self, operator: str, reason: str, cure: str, module_path: str = "", source: str = "") -> None:
        self.operator = operator
        self.reason = reason
        self.cure = cure
        self.module_path = module_path
        self.source = source
        where = f"module {module_path!r}" if module_path else "the root module"
        line = f"\n  source: {source}" if source else ""
        super().__init__(f"{operator} in {where} was refused: {reason}{line}\n  cure: {cure}")


class CaptureError(MaxAffineError):
    """The module could not be traced into a graph at all (its own error, or control flow that depends on the data)."""


class BadInput(MaxAffineError, ValueError):
    """An argument has a wrong value: NaN, an empty batch, an unknown name, an impossible option."""


class ShapeMismatch(BadInput):
    """An argument has another shape, dtype or device than the network was captured with."""


class ExactnessError(MaxAffineError):
    """The spline form and the user's untouched module disagree by more than rounding can explain."""


class DataError(MaxAffineError):
    """A data set or a data file is absent, unreadable or malformed."""


class ModelError(MaxAffineError):
    """A model could not be found, built or loaded safely."""


class PartitionError(MaxAffineError):
    """A partition of a line, a plane or the input space came out inconsistent: it is not returned.

    Args:
        reason: What does not fit.
        place: Where, in coordinates of the line or plane, or in input space.
        unit: Flat number of the unit whose boundary it is, when it is known.
        operator: Name of its operator.
        cure: What the user can do about it.
    """

    def __init__(
        self,
        reason: str,
        place: tuple[float, ...] = (),
        unit: int | None = None,
        operator: str = "",
        cure: str = "move the plane or its rim a little, or raise tolerance",
    ) -> None:
        self.reason = reason
        self.place = place
        self.unit = unit
        self.operator = operator
        self.cure = cure
        whose = f", unit {unit} of {operator or 'its operator'}" if unit is not None else ""
        where = f" at {_shorten(place)}" if place else ""
        super().__init__(f"{reason}{where}{whose}\n  cure: {cure}")


def _shorten(place: tuple[float, ...]) -> str:
    shown = ", ".join(str(value) for value in place[:SHOWN])
    return f"({shown}{f', ... {len(place)} numbers' if len(place) > SHOWN else ''})"
