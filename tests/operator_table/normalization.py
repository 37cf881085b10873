"""Normalization and dropout."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from tests.operator_table.row import IMAGE, SERIES, STEPS, VECTOR, VOLUME, function, layer, refused

BATCH_NORM = (
    layer("BatchNorm1d", VECTOR, 6),
    layer("BatchNorm1d", SERIES, 2, affine=False),
    layer("BatchNorm2d", IMAGE, 2),
    layer("BatchNorm2d", IMAGE, 2, eps=0.1, momentum=None),
    layer("BatchNorm3d", VOLUME, 2),
    layer("LazyBatchNorm1d", VECTOR),
    layer("LazyBatchNorm2d", IMAGE),
    layer("LazyBatchNorm3d", VOLUME),
    layer("SyncBatchNorm", IMAGE, 2),
    layer("InstanceNorm1d", SERIES, 2, affine=True, track_running_stats=True),
    layer("InstanceNorm2d", IMAGE, 2, track_running_stats=True),
    layer("InstanceNorm3d", VOLUME, 2, affine=True, track_running_stats=True),
    layer("LazyInstanceNorm1d", SERIES),
    layer("LazyInstanceNorm2d", IMAGE),
    layer("LazyInstanceNorm3d", VOLUME, affine=False),
    *refused(
        layer("BatchNorm1d", VECTOR, 6, train=True),
        layer("BatchNorm1d", VECTOR, 6, track_running_stats=False),
        layer("BatchNorm2d", IMAGE, 2, train=True),
        layer("BatchNorm3d", VOLUME, 2, train=True),
        layer("SyncBatchNorm", IMAGE, 2, train=True),
        layer("InstanceNorm1d", SERIES, 2),
        layer("InstanceNorm2d", IMAGE, 2, affine=True),
        layer("InstanceNorm2d", IMAGE, 2, track_running_stats=True, train=True),
        layer("InstanceNorm3d", VOLUME, 2),
        layer("LazyInstanceNorm1d", SERIES, track_running_stats=False),
    ),
)

LAYERS = (
    *BATCH_NORM,
    *refused(
        layer("LayerNorm", STEPS, 4),
        layer("LayerNorm", STEPS, (3, 4), elementwise_affine=False),
        layer("GroupNorm", IMAGE, 1, 2),
        layer("RMSNorm", STEPS, 4),
        layer("LocalResponseNorm", IMAGE, 2),
        layer("CrossMapLRN2d", IMAGE, 2),
    ),
    layer("Dropout", VECTOR),
    layer("Dropout", VECTOR, 0.3, inplace=True),
    layer("Dropout1d", SERIES),
    layer("Dropout2d", IMAGE),
    layer("Dropout3d", VOLUME),
    layer("AlphaDropout", VECTOR),
    layer("FeatureAlphaDropout", IMAGE),
    layer("Dropout", VECTOR, 0.0, train=True),
    *refused(
        layer("Dropout", VECTOR, train=True),
        layer("Dropout1d", SERIES, train=True),
        layer("Dropout2d", IMAGE, train=True),
        layer("Dropout3d", VOLUME, train=True),
        layer("AlphaDropout", VECTOR, train=True),
        layer("FeatureAlphaDropout", IMAGE, train=True),
    ),
)

STATISTICS = {"mean": (2,), "var": lambda: F.softplus(torch.randn(2))}

FUNCTIONS = (
    function(
        "batch_norm", IMAGE, lambda m, x: F.batch_norm(x, m.mean, m.var, eps=0.1), "constant statistics", STATISTICS
    ),
    function(
        "instance_norm",
        IMAGE,
        lambda m, x: F.instance_norm(x, m.mean, m.var, use_input_stats=False),
        "use_input_stats=False",
        STATISTICS,
    ),
    *refused(
        function("batch_norm", IMAGE, lambda m, x: F.batch_norm(x, None, None, training=True), "training=True"),
        function("instance_norm", IMAGE),
        function("layer_norm", STEPS, normalized_shape=(4,)),
        function("group_norm", IMAGE, num_groups=2),
        function("rms_norm", STEPS, normalized_shape=(4,)),
        function("local_response_norm", IMAGE, size=2),
        function("normalize", VECTOR),
        function("normalize", VECTOR, p=1.0),
    ),
    function("dropout", VECTOR, training=False),
    function("dropout1d", SERIES, training=False),
    function("dropout2d", IMAGE, training=False),
    function("dropout3d", VOLUME, training=False),
    function("alpha_dropout", VECTOR),
    function("feature_alpha_dropout", IMAGE),
    *refused(
        function("dropout", VECTOR),
        function("dropout1d", SERIES),
        function("dropout2d", IMAGE),
        function("dropout3d", VOLUME),
        function("alpha_dropout", VECTOR, training=True),
        function("feature_alpha_dropout", IMAGE, training=True),
    ),
)
