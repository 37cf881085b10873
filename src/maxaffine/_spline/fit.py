"""Max-affine regression: a convex function as one maximum of affine pieces, any other as a difference of two."""

import itertools
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from maxaffine._chunks import slices
from maxaffine._progress import progress_bar
from maxaffine._spline.checks import check_dense, check_finite
from maxaffine.errors import BadInput, ShapeMismatch

# A piece is added in one of the cells with the most of the loss: looking into more of them hardly ever pays.
CELLS = 4
TRIALS = 3  # of these pieces for either maximum, where the first does not lower the loss by enough
GAIN = 0.25  # that is, with R pieces by this over R
SWAP = 1e-3  # pieces are moved while each lowers the loss by this share
JUDGES = 2000  # samples that candidates for a piece are compared on
# The parameters of one fit are solved for together, by a matrix of this many rows at most.
MOST_PARAMETERS = 6000
SAMPLES = 4096  # at once, where every sample has a matrix of its own


@dataclass(frozen=True)
class Difference:
    """f(x) = max_r <A[r], x> + B[r] over the pieces added, less the maximum over those subtracted."""

    rows: Tensor  # (M, D + 1): slopes, and the offset last
    added: Tensor  # (M,) bool: of which maximum a piece is

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The values (N,) at inputs with a last column of ones (N, D + 1), and who wins either maximum (N, 2)."""
        scores = x @ self.rows.T
        plus = scores.masked_fill(~self.added, -torch.inf).max(dim=1)
        minus = scores.masked_fill(self.added, -torch.inf).max(dim=1)
        return plus.values - minus.values, torch.stack([plus.indices, minus.indices], dim=1)

    def grown(self, row: Tensor, added: bool) -> Self:
        """With one more piece."""
        return type(self)(torch.cat([self.rows, row[None]]), torch.cat([self.added, self.added.new_tensor([added])]))


class Descent:
    """The fit of one output, from one affine piece on: pieces are added one by one and move between."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        best = torch.linalg.lstsq(x, y[:, None], driver="gelsd" if x.device.type == "cpu" else None).solution[:, 0]
        both = torch.tensor([True, False], device=x.device)
        self.take(Difference(torch.stack([best, torch.zeros_like(best)]), both))
        self.best = self.loss, self.now

    def take(self, fit: Difference) -> None:
        """Go on from this fit."""
        self.now = fit
        values, self.winners = fit(self.x)
        self.residual = self.y - values
        self.loss = float(self.residual.square().sum())

    def loss_of(self, fit: Difference) -> float:
        """The sum of squares of another fit."""
        return float((self.y - fit(self.x)[0]).square().sum())

    def judge(self, fit: Difference) -> float:
        """The same on few samples, to compare candidates by."""
        every = -(-len(self.x) // JUDGES)
        return float((self.y[::every] - fit(self.x[::every])[0]).square().sum())

    def descend(self, steps: int, tolerance: float) -> None:
        """Up to so many damped steps, until one lowers the loss by less than its share `tolerance`."""
        # While no sample changes its winners, f is linear in the pieces and one step of least squares would end it.
        # Where samples do change, only a shorter one is sure to go down: the damping of Levenberg and Marquardt, which
        # also leaves pieces that win nowhere where they are.
        damping = 1e-3
        for _ in range(steps):
            before = self.loss
            square, right = self._normal_equations()
            scale = square.diagonal().mean() * torch.eye(len(square)).to(square)
            while damping < 1e6:
                step = torch.linalg.solve(square + damping * scale, right).view_as(self.now.rows)
                fit = Difference(self.now.rows + step, self.now.added)
                if self.loss_of(fit) < before:
                    self.take(fit)
                    damping = max(damping / 5, 1e-9)
                    break
                damping *= 4
            if self.loss >= before * (1 - tolerance):
                break
        if self.loss < self.best[0]:
            self.best = self.loss, self.now

    def _normal_equations(self) -> tuple[Tensor, Tensor]:
        """J^T J and J^T r: a sample's x is in the rows of its two winners, once with either sign."""
        count, width = self.now.rows.shape
        square, right = self.x.new_zeros(count * count, width * width), torch.zeros_like(self.now.rows)
        for part in slices(len(self.x), SAMPLES):
            x, winners = self.x[part], self.winners[part].T
            outer = (x[:, :, None] * x[:, None, :]).flatten(1)
            for (first, one), (second, two) in itertools.product(enumerate(winners), repeat=2):
                square.index_add_(0, one * count + two, outer, alpha=1 if first == second else -1)
            for one, sign in zip(winners, (1, -1), strict=True):
                right.index_add_(0, one, x * self.residual[part, None], alpha=sign)
        square = square.view(count, count, width, width).transpose(1, 2)
        return square.reshape(count * width, count * width), right.flatten()

    def grow(self, most: tuple[int, int]) -> bool:
        """One more piece, of the first maximum or the second, where it lowers the loss most; False where none fits."""
        # Pieces that win nowhere make room.
        alive = torch.zeros_like(self.now.added)
        alive[self.winners.flatten()] = True
        self.take(Difference(self.now.rows[alive], self.now.added[alive]))
        # Over a smooth function of D features R pieces leave a loss of R^(-4/D), and one more lowers that by 4/(D R).
        wanted = self.best[0] * (1 - GAIN / len(self.now.rows))
        tried: list[tuple[float, Difference]] = []
        # A bend spoils other cells where it reaches into them, and only a few steps show whether they recover.
        for fit in self._candidates(most):
            self.take(fit)
            self.descend(4, 1e-3)
            tried.append((self.loss, self.now))
            if self.loss < wanted:
                return True
        if tried:
            self.take(min(tried, key=lambda one: one[0])[1])
        return bool(tried)

    def _candidates(self, most: tuple[int, int]) -> list[Difference]:
        """The few best fits with one more piece, of either maximum, in one of the worst cells."""
        count = len(self.now.rows)
        _, cell = (self.winners[:, 0] * count + self.winners[:, 1]).unique(return_inverse=True)
        harm = torch.bincount(cell, self.residual.square())
        # A piece with fewer samples than numbers would be anything.
        harm[torch.bincount(cell) < 2 * self.x.shape[1]] = 0
        found = [
            self._bent(cell == worst, feature, way)
            for worst in harm.argsort(descending=True)[:CELLS]
            if harm[worst] > 0
            for feature, way in itertools.product(range(self.x.shape[1] - 1), (1, -1))
        ]
        found.sort(key=self.judge)
        sides = [[fit for fit in found if bool(fit.added[-1]) == side][:TRIALS] for side in (True, False)]
        counts = int(self.now.added.sum()), int((~self.now.added).sum())
        allowed = [fits for fits, count, limit in zip(sides, counts, most, strict=True) if count < limit]
        return [fit for pair in itertools.zip_longest(*allowed) for fit in pair if fit is not None]

    def shrink(self) -> bool:
        """One piece less, the one without which the loss is least; False where either maximum has only one."""
        rows, added = self.now.rows, self.now.added
        fits = []
        for piece in range(len(rows)):
            others = torch.arange(len(rows), device=rows.device) != piece
            if int((added[others] == added[piece]).sum()):
                fits.append(Difference(rows[others], added[others]))
        if fits:
            self.take(min(fits, key=self.judge))
        return bool(fits)

    def settle(self, steps: int, tolerance: float) -> None:
        """Go on from the best fit so far, until nothing moves."""
        self.descend(steps, tolerance)
        self.take(self.best[1])

    def _bent(self, members: Tensor, feature: int, way: int) -> Difference:
        """The fit with a cell cut at the median of a feature, and bent there as its residual is."""
        x, residual = self.x[members], self.residual[members]
        cut = x[:, feature].median()
        bend = torch.zeros_like(x[0])
        bend[feature], bend[-1] = way, -way * cut
        design = torch.cat([x, (x @ bend).clamp(min=0)[:, None]], dim=1)
        ridge = 1e-9 * len(x) * torch.eye(design.shape[1]).to(x)
        best = torch.linalg.solve(design.T @ design + ridge, design.T @ residual)
        # In the cell the residual is an affine function, which moves the piece that wins, and a hinge. Bent upward,
        # the hinge is one more piece of the first maximum; bent downward, of the second.
        rows, upward, winners = self.now.rows.clone(), bool(best[-1] > 0), self.winners[members][0]
        rows[winners[0]] += best[:-1]
        more = rows[winners[0] if upward else winners[1]] + best[-1].abs() * bend
        return Difference(rows, self.now.added).grown(more, upward)


def fit_differences(
    x: Tensor, y: Tensor, pieces: int, subtracted: int, *, steps: int, tolerance: float, progress: bool | None
) -> list[Difference]:
    """The fits of the outputs y (N, K) at x (N, D), each with so many pieces added and subtracted at most."""
    _check(x, y, pieces, subtracted)
    x, y = x.detach().double(), y.detach().double()
    # Steps are damped alike in all directions, so meanwhile all features and outputs have one scale.
    middle, spread = _standard(x)
    level, height = _standard(y)
    rows = torch.cat([(x - middle) / spread, torch.ones_like(x[:, :1])], dim=1)
    fits = []
    with progress_bar(progress, "fit", total=y.shape[1] * (pieces + subtracted), unit="piece") as bar:
        for output in range(y.shape[1]):
            found = _fit(rows, (y[:, output] - level[output]) / height[output], pieces, subtracted, steps, tolerance)
            slopes = found.rows[:, :-1] / spread * height[output]
            offsets = found.rows[:, -1] * height[output] - slopes @ middle + found.added * level[output]
            fits.append(Difference(torch.cat([slopes, offsets[:, None]], dim=1), found.added))
            bar.update(pieces + subtracted)
    return fits


def _fit(x: Tensor, y: Tensor, pieces: int, subtracted: int, steps: int, tolerance: float) -> Difference:
    """The fit of one standardized output."""
    descent = Descent(x, y)
    # A piece may die, and another be added for it: twice as often as there are pieces at most.
    for _ in range(2 * (pieces + subtracted)):
        if not descent.grow((pieces, max(subtracted, 1))):
            break
    descent.settle(steps, tolerance)
    # A piece in the wrong place stays there, however long all descend: the one missed least goes where one is needed.
    for _ in range(pieces + subtracted):
        before = descent.best[0]
        if not (descent.shrink() and descent.grow((pieces, max(subtracted, 1)))):
            break
        descent.settle(steps, tolerance)
        if descent.best[0] > before * (1 - SWAP):
            break
    fit = descent.best[1]
    if subtracted:
        return fit
    # A single piece subtracted is affine: without it, the maximum is what it is less that piece.
    rows = fit.rows[fit.added] - fit.rows[~fit.added]
    return Difference(rows, fit.added[fit.added])


def _standard(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column, 1 where it is constant."""
    spread = values.std(dim=0, correction=0)
    return values.mean(dim=0), torch.where(spread > 0, spread, 1.0)


def _check(x: Tensor, y: Tensor, pieces: int, subtracted: int) -> None:
    """Refuse what no spline can be fitted to."""
    for name, value in (("x", x), ("y", y)):
        check_dense(name, value)
        if value.ndim != 2 or not value.is_floating_point() or value.numel() == 0:
            raise ShapeMismatch(f"{name}: {value.dtype} {tuple(value.shape)}; give floats (N, columns), not empty")
        check_finite(name, value)
    if len(x) != len(y):
        raise ShapeMismatch(f"x, y: {len(x)} inputs and {len(y)} values; give one row of y for each row of x")
    if pieces < 1 or subtracted < 0:
        raise BadInput(f"pieces: {pieces}, and {subtracted} subtracted; give 1 or more, and 0 or more")
    if (parameters := (pieces + max(subtracted, 1)) * (x.shape[1] + 1)) > MOST_PARAMETERS:
        raise BadInput(
            f"pieces: {pieces + subtracted} of {x.shape[1]} features are {parameters:,} numbers to solve for together,"
            f" more than {MOST_PARAMETERS:,}; give fewer pieces, or train a MaxAffineSpline by its gradient"
        )


def stacked(units: list[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Slopes, offsets and pieces present of a spline whose units have these pieces (R_k, D + 1)."""
    rows = torch.nn.utils.rnn.pad_sequence(units, batch_first=True)
    counts = torch.tensor([len(unit) for unit in units])
    present = (torch.arange(rows.shape[1]) < counts[:, None]).to(rows.device)
    return rows[:, :, :-1], rows[:, :, -1], None if bool(present.all()) else present
