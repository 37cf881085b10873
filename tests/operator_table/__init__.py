"""The operator table: classes of torch.nn, functions of torch.nn.functional and some of torch, exact or refused."""

from tests.operator_table import (
    activations,
    containers,
    distances,
    linear,
    losses,
    normalization,
    pooling,
    sequences,
    shape,
    tensors,
)
from tests.operator_table.row import Row

SECTIONS: dict[str, tuple[Row, ...]] = {
    "Activations": activations.LAYERS + activations.FUNCTIONS,
    "Linear layers and convolutions": linear.LAYERS + linear.FUNCTIONS,
    "Pooling": pooling.LAYERS + pooling.FUNCTIONS,
    "Padding, shape and resampling": shape.LAYERS + shape.FUNCTIONS,
    "Normalization and dropout": normalization.LAYERS + normalization.FUNCTIONS,
    "Sequences": sequences.LAYERS + sequences.FUNCTIONS,
    "Containers and tables": containers.LAYERS + containers.FUNCTIONS,
    "Losses and distances": losses.LAYERS + distances.FUNCTIONS,
    "Functions of torch": tensors.FUNCTIONS,
}
ROWS = tuple(row for rows in SECTIONS.values() for row in rows)
