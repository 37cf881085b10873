"""Two layers that torch does not have: maxout and the absolute value."""

from __future__ import annotations

from torch import Tensor, nn

from maxaffine.errors import BadInput


class Abs(nn.Module):
    """The absolute value |x| of every entry, two pieces -x and x.

    >>> import torch
    >>> Abs()(torch.tensor([-2.0, 3.0]))
    tensor([2., 3.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Absolute value.

        Args:
            x: any shape.

        Returns:
            |x|, of the same shape.
        """
        return x.abs()


class Maxout(nn.Module):
    """The largest of R learned affine functions, max_r W_r x + b_r, over the last dimension.

    Source: Goodfellow et al., Maxout Networks (arXiv 1302.4389).

    >>> import torch
    >>> Maxout(5, 3, pieces=4)(torch.zeros(2, 5)).shape
    torch.Size([2, 3])
    """

    def __init__(self, in_features: int, units: int, pieces: int, *, bias: bool = True) -> None:
        """Initialise the pieces as `torch.nn.Linear` does.

        Args:
            in_features: D.
            units: K.
            pieces: R.
            bias: Whether the pieces have offsets.

        Raises:
            BadInput: A size below 1.
        """
        super().__init__()
        if min(in_features, units, pieces) < 1:
            raise BadInput("in_features, units and pieces must all be at least 1")
        self.in_features, self.units, self.pieces = in_features, units, pieces
        # Row k * R + r of the linear layer is piece r of unit k.
        self.linear = nn.Linear(in_features, units * pieces, bias=bias)

    def extra_repr(self) -> str:
        """Sizes for `repr`.

        Returns:
            One line.
        """
        return f"units={self.units}, pieces={self.pieces}"

    def forward(self, x: Tensor) -> Tensor:
        """Value; the lowest piece wins a tie.

        Args:
            x: (..., D).

        Returns:
            (..., K).
        """
        return self.linear(x).unflatten(-1, (self.units, self.pieces)).max(dim=-1).values
