"""Norms and distances of torch.nn.functional."""

from __future__ import annotations

from torch.nn import functional as F

from tests.operator_table.row import VECTOR, function, refused

BOTH = (VECTOR, VECTOR)
CONSTANT = {"c": (6,)}

FUNCTIONS = (
    function("pairwise_distance", BOTH, lambda m, x, y: F.pairwise_distance(x, y, p=1.0), "p=1"),
    function(
        "pairwise_distance", VECTOR, lambda m, x: F.pairwise_distance(x, m.c, p=1.0), "p=1, to a constant", CONSTANT
    ),
    function("pairwise_distance", VECTOR, lambda m, x: F.pairwise_distance(x, m.c, p=float("inf")), "p=inf", CONSTANT),
    *refused(
        function("pairwise_distance", BOTH, lambda m, x, y: F.pairwise_distance(x, y), "p=2"),
        function("cosine_similarity", BOTH, lambda m, x, y: F.cosine_similarity(x, y), "of two inputs"),
        function("cosine_similarity", VECTOR, lambda m, x: F.cosine_similarity(x, m.c), "to a constant", CONSTANT),
        function("pdist", VECTOR),
    ),
)
