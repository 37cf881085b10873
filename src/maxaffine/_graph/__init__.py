"""The frozen graph of affine and piecewise-affine operators: run it, read its codes, and give its local affine map."""

from maxaffine._graph.boundaries import Boundaries, Comparisons, Contest, Duels, Knots, Order, Pair
from maxaffine._graph.contract import Columns, LocalMap, Operator, OperatorRecord, Sign, Traits
from maxaffine._graph.curvature import Curvature, curvatures
from maxaffine._graph.frozen import Affine, FrozenFunction, Held, Signature, Slot, Traced, as_tuple, fill
from maxaffine._graph.fusion import fold, fuse
from maxaffine._graph.gates import TANGENT, Attention, Gated, GatedMap, Normalization, Tangent, without_gates
from maxaffine._graph.graph import CARRYING, BatchAxis, Dependence, Graph, Step, Value, as_rows
from maxaffine._graph.linear import (
    ChannelAffine,
    Convolution,
    MatrixProduct,
    Multiple,
    Permutation,
    Reshape,
    Shift,
    Sum,
    Transposable,
    fastest_layout,
)
from maxaffine._graph.linearization import Linearization, undisturbed
from maxaffine._graph.live import Rebuilt, lifted
from maxaffine._graph.mapping import tensors_in
from maxaffine._graph.naming import loaded_target, saved_target
from maxaffine._graph.overflow import all_finite, refuse_overflow
from maxaffine._graph.piecewise import Choice, Comparison, Elementwise, ScalarSpline, WideSpline
from maxaffine._graph.precision import in_float32, in_float64
from maxaffine._graph.recurrence import Recurrence, recurrences
from maxaffine._graph.selection import AxisSelection, MaxPool
from maxaffine._graph.splines import NEVER_SWITCHES, Maximum, Splines
