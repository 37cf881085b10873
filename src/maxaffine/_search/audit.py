"""What the codes of a data set tell about it: inputs that are there twice, and labels that may be wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxaffine._codes import Codes, as_classes, operator_shares
from maxaffine._drawing import Tabular
from maxaffine._search.checks import Weights, note_left_out, positive, switching_weights
from maxaffine._search.index import CodeIndex
from maxaffine._search.nearest import Neighbors
from maxaffine.errors import BadInput

_SHOWN = 10


@dataclass(frozen=True, eq=False, repr=False)
class NearDuplicates(Tabular):
    """Pairs of inputs that a network treats almost alike, the most alike first.

    score = 1 - d(x, x') / max(r(x), r(x')), where the reach r is the distance to the k-th nearest other input

    It is 1 for two inputs of one region, and 0 for two that are no nearer to each other than to k others. Dense and
    sparse parts of the data are thus judged alike.
    """

    pairs: Tensor  # (M, 2) int64, the earlier input first
    distances: Tensor  # (M,) float64, d of each pair
    scores: Tensor  # (M,) float64, highest first
    inputs: int  # number of inputs that were compared
    left_out: tuple[str, ...] = ()  # operators that are not in the distance, as they never switch on the inputs

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Inputs connected by pairs, each group ascending, in the order of its first pair."""
        group = {}
        # Each input keeps the whole of its group; a pair of two groups joins them.
        for a, b in self.pairs.tolist():
            joined = sorted({*group.get(a, (a,)), *group.get(b, (b,))})
            group.update(dict.fromkeys(joined, tuple(joined)))
        return tuple(dict.fromkeys(group.values()))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def _title(self) -> str:
        return "\n".join(
            [f"NearDuplicates: {len(self)} pairs among {self.inputs} inputs", *note_left_out(self.left_out)]
        )

    def _table(self) -> list[tuple[str, ...]]:
        shown = zip(self.pairs.tolist(), self.distances.tolist(), self.scores.tolist(), strict=True)
        rows = [(str(a), str(b), f"{d:.4f}", f"{s:.3f}") for (a, b), d, s in list(shown)[:_SHOWN]]
        return [("input", "input", "distance", "score"), *rows]


@dataclass(frozen=True, eq=False, repr=False)
class LabelErrors(Tabular):
    """Inputs whose neighbors carry another label.

    score_i = 1 - (how many of the k nearest other inputs share the label of input i) / min(k, n_i - 1), averaged over
    the operators, where n_i inputs have that label, so that no more than n_i - 1 others could share it

    A class of at most k inputs is too small to judge: its members cannot fill the neighborhood of one of them, so all
    of them would be suspects wherever the class does not lie apart from the others. They are ranked, but no candidates.
    """

    scores: Tensor  # (N,) float64 of all inputs; 0 for the only input of a class, which nothing speaks against
    labels: Tensor  # (N,) int64 as given
    suggested: Tensor  # (N,) int64, the label that most of the neighbors have; among several the lowest
    # (M,) int64, the inputs with a score of at least the threshold whose neighbors suggest another label, highest score
    # first, ties by the earlier input.
    candidates: Tensor
    neighbors: Tensor  # (N, k) int64, the nearest at the last operator, nearest first
    threshold: float  # from which score on an input is a candidate
    operators: tuple[str, ...]  # at which operators neighbors were looked for
    too_small: Mapping[int, int]  # how many inputs each class has that is too small to judge, by label
    left_out: tuple[str, ...] = ()  # operators where none were looked for, as they never switch on the inputs

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.candidates)

    def _title(self) -> str:
        title = f"LabelErrors: {len(self)} candidates among {len(self.labels)} inputs, at {', '.join(self.operators)}"
        notes = note_left_out(self.left_out)
        if self.too_small:
            k = self.neighbors.shape[1]
            sizes = ", ".join(f"{label} of {count}" for label, count in list(self.too_small.items())[:_SHOWN])
            more = ", ..." if len(self.too_small) > _SHOWN else ""
            notes.append(f"too small to judge with k={k}: {len(self.too_small)} classes ({sizes}{more})")
        return "\n".join([title, *notes])

    def _table(self) -> list[tuple[str, ...]]:
        rows = [
            (str(i), str(int(self.labels[i])), str(int(self.suggested[i])), f"{float(self.scores[i]):.3f}")
            for i in self.candidates[:_SHOWN].tolist()
        ]
        return [("input", "label", "suggested", "score"), *rows]


def near_duplicates(
    codes: Codes,
    threshold: float = 0.5,
    weights: Weights | None = None,
    k: int = 10,
    *,
    threads: int = 1,
    progress: bool | None = None,
) -> NearDuplicates:
    """Find pairs of inputs that are far closer to each other, in code distance, than to the inputs around them.

    Args:
        codes: Codes of the N inputs.
        threshold: Lowest score of a pair, in (0, 1]; 1 asks for the same region.
        weights: Of the operators, as `code_distance` takes them; by default equal for those that switch on
            the inputs. Early operators are near to the picture itself, deep ones to the class.
        k: Which neighbor the reach of the score is measured to, fewer than the inputs. Of an input that is there more
            often than k times, only the copies in one region are sure to be found.
        threads: Threads that search.
        progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

    Returns:
        The pairs.

    Raises:
        BadInput: If an argument is out of range, or k is not below the number of inputs.

    Example:
        >>> codes = Codes.from_tensors({"relu": (torch.tensor([[0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 1, 1]]), 2)})
        >>> near_duplicates(codes, k=2).pairs
        tensor([[0, 2]])

    Source: the distance between partition encodings of Balestriero and Baraniuk, "A Spline Theory of Deep Networks"
    (ICML 2018).
    """
    if not 0 < threshold <= 1:
        raise BadInput(f"threshold={threshold!r}; give the lowest score of a pair, above 0 and at most 1")
    weights, left_out = switching_weights(weights, list(codes), lambda: codes.unswitched)
    found = _others(codes, k, operator_shares(weights, list(codes)), threads, progress)
    # The larger reach of the two: a pair is judged by the sparser of its surroundings.
    reach = torch.maximum(found.distances[:, -1:], found.distances[:, -1][found.ids])
    scores = torch.where(found.distances == 0, 1.0, 1 - found.distances / reach)
    near = scores >= threshold
    first = torch.arange(codes.batch)[:, None].expand_as(found.ids)
    pairs = torch.stack([torch.minimum(first, found.ids), torch.maximum(first, found.ids)], dim=-1)[near]
    # A pair seen from both sides has one distance and one score, so that either of its rows will do.
    unique, place = np.unique(pairs.numpy(), axis=0, return_index=True)
    pairs, distances, scores = torch.from_numpy(unique), found.distances[near][place], scores[near][place]
    order = scores.argsort(descending=True, stable=True)
    return NearDuplicates(pairs[order], distances[order], scores[order], codes.batch, left_out)


def label_errors(
    codes: Codes,
    labels: Tensor | Sequence[int],
    operators: str | Sequence[str] | None = None,
    k: int = 10,
    threshold: float = 0.9,
    *,
    threads: int = 1,
    progress: bool | None = None,
) -> LabelErrors:
    """Find inputs whose nearest neighbors, deep in a network, carry another label.

    Args:
        codes: Codes of the N inputs.
        labels: (N,) their labels, integers of at least 0.
        operators: Where to look for neighbors; by default the deeper half of the operators that switch on the inputs.
            Those that never do have no nearest inputs, and are left out.
        k: Neighbors per input and operator, fewer than the inputs. Classes of more inputs than this are judged.
        threshold: From which score on an input is a candidate, in (0, 1].
        threads: Threads that search.
        progress: Whether to show a progress bar; by default on a terminal when it takes over two seconds.

    Returns:
        A score for every input, the candidates, and the classes that are too small to judge.

    Raises:
        BadInput: If labels and codes do not fit, an operator is unknown, none of the operators switches, or an argument
            is out of range.

    Example:
        >>> codes = Codes.from_tensors({"relu": (torch.tensor([[0, 0], [0, 0], [0, 0], [1, 1], [1, 1], [1, 1]]), 2)})
        >>> label_errors(codes, [0, 0, 1, 1, 1, 1], k=2).candidates
        tensor([2])

    Source: that nearest neighbors in code distance share the class deep in a classifier: Balestriero and Baraniuk,
    "A Spline Theory of Deep Networks" (ICML 2018); the vote of the nearest as a test of labels: Zhu, Dong and Liu,
    "Detecting Corrupted Labels Without Training a Model to Predict" (ICML 2022).
    """
    names, left_out = _judges(codes, operators)
    if not 0 < threshold <= 1:
        raise BadInput(f"threshold={threshold!r}; give the lowest score of a candidate, above 0 and at most 1")
    given = as_classes(labels, codes.batch)
    if codes.batch and int(given.min()) < 0:
        raise BadInput(f"labels: {int(given.min())} is negative; number the classes from 0")
    nearest = [_others(codes, k, {name: 1.0}, threads, progress).ids for name in names]
    around = given[torch.cat(nearest, dim=1)]
    # Of several labels that are as common, torch takes the lowest on a CPU.
    suggested = around.mode(dim=1).values
    classes, member, sizes = given.unique(return_inverse=True, return_counts=True)
    # Of the k nearest at an operator no more can share the label than there are others of the class.
    reach = len(names) * (sizes - 1).clamp(max=k)[member]
    same = (around == given[:, None]).sum(1)
    scores = torch.where(reach > 0, 1 - same.double() / reach, 0.0)
    # A class of k inputs or fewer cannot fill one neighborhood: its score says how small it is, not how wrong.
    judged = (sizes > k)[member]
    candidates = (judged & (scores >= threshold) & (suggested != given)).nonzero()[:, 0]
    candidates = candidates[scores[candidates].argsort(descending=True, stable=True)]
    small = {int(label): int(size) for label, size in zip(classes, sizes, strict=True) if size <= k}
    return LabelErrors(scores, given, suggested, candidates, nearest[-1], threshold, names, small, left_out)


def _judges(codes: Codes, operators: str | Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The operators that judge labels, and those that would but never switch on the inputs."""
    wanted = [operators] if isinstance(operators, str) else list(codes if operators is None else operators)
    if unknown := [name for name in wanted if name not in codes]:
        raise BadInput(f"operators: unknown {unknown}; the codes have {list(codes)}")
    if not wanted:
        raise BadInput("operators: none is named; name at least one")
    never = codes.unswitched
    switching, left_out = ([name for name in wanted if (name in never) == out] for out in (False, True))
    names = switching[len(switching) // 2 :] if operators is None else switching
    if not names:
        raise BadInput(
            f"operators: none of {list(left_out)} ever switches on these inputs, so that none of them is nearer than"
            " another; name operators that switch, or give more inputs"
        )
    return tuple(names), tuple(left_out)


def _others(codes: Codes, k: int, shares: Mapping[str, float], threads: int, progress: bool | None) -> Neighbors:
    """The k nearest of each input among all others."""
    if positive("k", k) >= codes.batch:
        raise BadInput(f"k={k}, but an input has {max(0, codes.batch - 1)} others; ask for fewer, or give more inputs")
    wanted = {name: share for name, share in shares.items() if share}
    # Only what is compared is laid out for the search.
    kept = Codes({name: codes[name] for name in wanted}, codes.batch, codes.metadata)
    found = CodeIndex(kept).search(kept, k + 1, wanted, threads=threads, progress=progress)
    own = found.ids == torch.arange(codes.batch)[:, None]
    # An input is among its own nearest, unless as many others of its region come before it.
    own[:, -1] |= ~own.any(1)
    return Neighbors(found.ids[~own].view(-1, k), found.distances[~own].view(-1, k))
