"""Codes: which affine piece won at every unit of every operator, packed into bits, compared and kept on disk."""

from maxaffine._codes.distance import code_distance, code_distance_blocks, operator_shares
from maxaffine._codes.drift import Drift, code_changes, code_drift
from maxaffine._codes.hierarchy import Occupancy, RegionHierarchy, RegionLevel, as_classes, region_hierarchy
from maxaffine._codes.mapping import FINGERPRINT, SMOOTH, Codes
from maxaffine._codes.metric import RowLayout, RowMetric, layouts_of, load_faiss
from maxaffine._codes.packed import PackedCodes, pack
