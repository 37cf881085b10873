"""The one table of networks x inputs that all tests share, and the table of networks that must be refused.

Parametrize a test with ``@pytest.mark.parametrize("case", ZOO, ids=str)`` and take ``case.build(dtype)`` and
``case.inputs(batch, dtype, seed)``. Every input and output has the batch as its first dimension.
"""

from tests.zoo.case import Case, Refused
from tests.zoo.layers import LAYERS
from tests.zoo.refused import REFUSED
from tests.zoo.structures import STRUCTURES
from tests.zoo.units import UNITS

ZOO: tuple[Case, ...] = UNITS + STRUCTURES + LAYERS

__all__ = ["REFUSED", "ZOO", "Case", "Refused"]
