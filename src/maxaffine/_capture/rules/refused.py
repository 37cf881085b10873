"""Operators that are known not to be piecewise affine, each with its reason and a cure."""

from typing import NoReturn

from maxaffine._capture.call import Call

STOP_BEFORE = "capture the part before it: output='pre_activation' for a final one, until='<operator>' anywhere"
REPLACE = (
    "replace it by a piecewise-affine operator (ReLU, leaky ReLU, hardtanh), or capture the part before it (until=...)"
)
SMOOTH = "it is a smooth curve, not finitely many affine pieces"

# Operators, the reason, and what to do.
FAMILIES: tuple[tuple[str, str, str], ...] = (
    (
        "softmax _softmax _safe_softmax log_softmax _log_softmax sigmoid tanh log_sigmoid log_sigmoid_forward",
        SMOOTH,
        STOP_BEFORE,
    ),
    (
        "gelu elu celu selu softplus logit exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos "
        "atan sinh cosh asinh acosh atanh erf erfc erfinv logsumexp logcumsumexp reciprocal sinc lgamma digamma "
        "logaddexp atan2 hypot special_entr special_erf i0 special_i0e special_i1 special_i1e polygamma",
        SMOOTH,
        REPLACE,
    ),
    ("mish silu hardswish glu", "it multiplies two functions of the input", REPLACE),
    (
        "layer_norm native_layer_norm group_norm native_group_norm rms_norm _fused_rms_norm instance_norm",
        "it divides by statistics of the input itself",
        "batch-norm in evaluation mode is affine; else capture the part before it (until=...)",
    ),
    ("var std var_mean std_mean", "it squares the input", REPLACE),
    (
        "_native_batch_norm_legit _native_batch_norm_legit_functional native_batch_norm "
        "_batch_norm_with_update _batch_norm_with_update_functional cudnn_batch_norm",
        "it normalizes by the statistics of the batch, so samples are mixed and divided by themselves",
        "call model.eval() before capture, of a batch-norm that keeps running statistics (track_running_stats=True)",
    ),
    (
        "native_dropout bernoulli rand rand_like randn randn_like randint randint_like randperm random normal "
        "normal_functional log_normal uniform exponential cauchy geometric poisson binomial multinomial",
        "it draws random numbers, so one input does not give one output",
        "call model.eval() before capture, and give functions training=self.training; numbers that are drawn in"
        " evaluation mode too can become an input of the module",
    ),
    (
        "fractional_max_pool2d fractional_max_pool3d",
        "its windows lie where random numbers say, in evaluation mode too",
        "use max-pooling or adaptive max-pooling",
    ),
    ("rnn_relu", "it drops out at random between its layers", "call model.eval() before capture"),
    (
        "multilabel_margin_loss_forward",
        "PyTorch takes it apart wrongly: it counts the padding after a sample's labels",
        "write the sum of hinges with torch.clamp",
    ),
    (
        "embedding_bag _embedding_bag _embedding_bag_forward_only",
        "its bags are told apart by positions in the whole batch",
        "use nn.Embedding and a sum, mean or amax over the bag",
    ),
    ("lstm gru", "its gates multiply values that depend on the input", "use nn.RNN(nonlinearity='relu')"),
    ("lstm_cell gru_cell", "its gates multiply values that depend on the input", "use nn.RNNCell(nonlinearity='relu')"),
    ("rnn_tanh", "tanh is a smooth curve", "use nn.RNN(nonlinearity='relu')"),
    ("rnn_tanh_cell", "tanh is a smooth curve", "use nn.RNNCell(nonlinearity='relu')"),
    (
        "_pack_padded_sequence _pad_packed_sequence",
        "it lays samples of different lengths into one axis, so where each of them stands depends on all lengths",
        "give nn.RNN the padded batch itself (batch_first=True), and choose the steps that count afterwards",
    ),
    (
        "norm linalg_norm linalg_vector_norm pairwise_distance cdist _cdist_forward _euclidean_dist",
        "a norm (or a distance) other than with p=1 or p=inf is not piecewise affine",
        "use p=1 or p=inf, where nothing is divided by it, or capture the part before it (until=...)",
    ),
    (
        "pdist _pdist_forward",
        "it measures the distances between the samples of a batch, so no sample has an affine map of its own",
        "measure each sample alone, e.g. torch.cdist(x, centers, p=1.0) to constants, or capture the part before it",
    ),
    (
        "cosine_similarity",
        "it divides by norms of the input",
        "use F.linear or a sum of products with a constant, or capture the part before it (until=...)",
    ),
    ("_trilinear prod cumprod mse_loss", "it multiplies values that depend on the input", REPLACE),
    (
        "floor ceil round trunc frac remainder fmod floor_divide frexp nextafter",
        "it has infinitely many pieces",
        "leave it out, or capture the part before it (until=...)",
    ),
    (
        "pow square",
        "a power of the input is not piecewise affine",
        "use the absolute value, or capture the part before it (until=...)",
    ),
    (
        "arange",
        "it counts over the whole batch, so its value depends on the number of samples",
        "write x[torch.arange(len(x)), i] as x.gather(1, i[:, None])[:, 0], nn.EmbeddingBag as nn.Embedding and a sum,"
        " mean or amax over the bag; else use the batch size in shapes only",
    ),
    (
        "linalg_inv_ex linalg_pinv _linalg_det _linalg_slogdet _linalg_svd _linalg_eigh linalg_eig _linalg_eigvals "
        "linalg_qr linalg_lu linalg_lu_factor_ex linalg_ldl_factor_ex linalg_cholesky_ex cholesky linalg_matrix_exp "
        "linalg_householder_product geqrf",
        "it inverts or factors a matrix that depends on the input",
        "use a matrix that is a parameter or a buffer, or capture the part before it (until=...)",
    ),
    ("as_strided", "it reads memory by its layout, which is not the same everywhere", "use unfold, slices or reshape"),
    (
        "map_impl scan associative_scan while_loop",
        "it runs a function of its own over slices, inside of which capture does not look",
        "write it as a loop in Python, or for map as torch.vmap",
    ),
    (
        "cond",
        "it runs one function or another, inside of which capture does not look",
        "run both and choose with torch.where, or in Python by a number that is not a tensor",
    ),
    (
        "flex_attention flex_attention_backward",
        "it multiplies values that all depend on the input",
        "capture the part before it (until=...)",
    ),
    (
        "nonzero masked_select unique _unique2 item _local_scalar_dense",
        "the shape of its value depends on the data",
        "use torch.where with values of a fixed shape",
    ),
)
REASONS = {name: (reason, cure) for names, reason, cure in FAMILIES for name in names.split()}

UNKNOWN = (
    "no rule says that it is piecewise affine",
    "register a rule for it (see docs/howto-rule.md), or capture the part before it (until=...)",
)


def refuse(call: Call, otherwise: tuple[str, str] = UNKNOWN, name: str = "") -> NoReturn:
    """Refuse a call that has no rule, for the reason of its operator or of the one that is named."""
    call.refuse(*REASONS.get(name or call.name.rpartition(".")[2], otherwise))
