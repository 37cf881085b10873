"""The contract of a rule (``maxaffine._capture.check_rule``) and, per family of rules, a module to hold it to."""

from tests.contracts.case import Contract
from tests.contracts.entries import INDEXING, SELECTION, SHAPE
from tests.contracts.entrywise import ACTIVATION, ARITHMETIC, COMPARISON, SOLVING
from tests.contracts.spatial import SPATIAL

CONTRACTS: tuple[Contract, ...] = (
    *(*ACTIVATION, *ARITHMETIC, *SOLVING, *COMPARISON),
    *SPATIAL,
    *(*INDEXING, *SELECTION, *SHAPE),
)

__all__ = ["CONTRACTS", "Contract"]
