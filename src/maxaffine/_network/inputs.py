"""What a network takes: how its inputs are nested, and the checks that every call makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxaffine._graph import all_finite
from maxaffine.errors import BadInput, ShapeMismatch


@dataclass(frozen=True)
class InputSpec:
    """The inputs that a network was captured with."""

    names: tuple[str, ...]  # one name per input, for messages and keys of a dict
    keyword: bool  # whether the inputs are given by name, as a dict
    units: tuple[tuple[int, ...], ...]  # shape of one sample of each input
    batch_dims: tuple[int, ...]  # the batch axis of each input
    dtypes: tuple[torch.dtype, ...]  # the dtype of each input
    device: torch.device  # the device of all of them

    def tensors(self, x: Any) -> tuple[Tensor, ...]:
        """The inputs, given as at capture, as a flat tuple of tensors that fit: finite, and no empty batch."""
        items = self._list(x)
        for place, item in enumerate(items):
            self._check(place, item)
        counts = {item.shape[axis] for item, axis in zip(items, self.batch_dims, strict=True)}
        if len(counts) > 1:
            raise ShapeMismatch(f"x: the inputs {self.names} hold different numbers of samples: {sorted(counts)}")
        return items

    def nest(self, tensors: Sequence[Tensor]) -> Any:
        """One tensor per input as the network takes them: alone, as a tuple, or as a dict by name."""
        if self.keyword:
            return dict(zip(self.names, tensors, strict=True))
        return tensors[0] if len(tensors) == 1 else tuple(tensors)

    def fronts(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The floating-point ones among tensors shaped as the inputs, the samples in front."""
        pairs = zip(tensors, self.batch_dims, strict=True)
        return tuple(item.movedim(axis, 0) for item, axis in pairs if item.is_floating_point())

    def _list(self, x: Any) -> tuple[Any, ...]:
        if self.keyword:
            if not isinstance(x, dict) or set(x) != set(self.names):
                given = sorted(x) if isinstance(x, dict) else type(x).__name__
                raise BadInput(f"x: expected a dict with the keys {sorted(self.names)}, got {given}")
            return tuple(x[name] for name in self.names)
        items = tuple(x) if isinstance(x, tuple | list) else (x,)
        if len(items) != len(self.names):
            raise BadInput(f"x: the network takes {len(self.names)} inputs {self.names}, got {len(items)}")
        return items

    def _check(self, place: int, item: Any) -> None:
        name = self.names[place]
        if not isinstance(item, Tensor):
            raise BadInput(f"{name}: expected a torch.Tensor, got {type(item).__name__}; use torch.as_tensor")
        if item.layout is not torch.strided or item.is_nested:
            raise BadInput(f"{name}: a {item.layout} tensor; give a dense one, .to_dense() or .to_padded_tensor(0)")
        axis, units = self.batch_dims[place], self.units[place]
        own = tuple(item.shape[:axis]) + tuple(item.shape[axis + 1 :])
        if item.dim() != len(units) + 1 or own != units:
            expected = (*map(str, units[:axis]), "N", *map(str, units[axis:]))
            raise ShapeMismatch(
                f"{name}: shape {tuple(item.shape)}, but the network was captured with ({', '.join(expected)});"
                " reshape it, or capture again with such an example"
            )
        if item.dtype != self.dtypes[place]:
            raise ShapeMismatch(
                f"{name}: dtype {item.dtype}, but the network was captured in {self.dtypes[place]}; convert it with"
                f" .to({self.dtypes[place]}), or capture the model again in {item.dtype}"
            )
        if item.device != self.device:
            raise ShapeMismatch(
                f"{name}: on {item.device}, but the network was captured on {self.device}; move it with"
                f" .to('{self.device}')"
            )
        # What reads the numbers comes last: above all else has to fit for them to be read.
        if item.is_meta:
            raise BadInput(f"{name}: a meta tensor holds no numbers; move the model and the data to a real device")
        if item.shape[axis] == 0:
            raise BadInput(f"{name}: the batch is empty; give at least one sample")
        if not all_finite(item):
            raise BadInput(
                f"{name}: it holds NaN or infinity, where no affine map exists; clean the data, and give masks as truth"
                " values"
            )
