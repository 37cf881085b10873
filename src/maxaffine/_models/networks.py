"""The reference networks by name: small ones of every common design, from inputs to logits, without a softmax.

All but the smooth ``vit`` and ``convnext`` are piecewise affine in eval mode.
"""

import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import BadInput
from .randomness import fixed_seed


def build(
    name: str, input_shape: Sequence[int], classes: int, *, seed: int | None = None, **options: object
) -> nn.Module:
    """Build a reference network by its name, ready to be trained.

    Args:
        name: A key of `FACTORIES`; underscores and hyphens are the same.
        input_shape: Shape of one input, without the batch.
        classes: Number of logits C.
        seed: Seed of the initial weights, which leaves the global generator as it was; None draws from the latter.
        **options: ``widths`` of ``mlp``, ``input-convex`` and ``convnext``; ``channels`` and ``hidden`` of ``cnn``;
            ``width`` and ``blocks`` of ``resnet``; ``dropout`` of ``mobilenet``; ``hidden`` and ``layers`` of
            ``relu-rnn``; ``patch``, ``width``, ``blocks`` and ``heads`` of ``vit``; ``blocks`` of ``convnext``.

    Returns:
        Module from (N, *input_shape) to logits (N, C), piecewise affine in eval mode but for the smooth ``vit`` and
        ``convnext``.

    Raises:
        BadInput: There is no such network or no such option, or the network does not take such inputs.

    >>> build("mlp", (1, 8, 8), 10, seed=0, widths=(32,))[1]
    Linear(in_features=64, out_features=32, bias=True)
    """
    factory = FACTORIES.get(name.replace("_", "-"))
    if factory is None:
        close = difflib.get_close_matches(name, FACTORIES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "choose one of these"
        raise BadInput(f"name: there is no network {name!r} among {', '.join(FACTORIES)}; {hint}")
    if classes < 1:
        raise BadInput(f"classes: {classes} is less than 1; give the number of logits")
    known = list(inspect.signature(factory).parameters)[2:]
    if unknown := sorted(options.keys() - known):
        raise BadInput(f"{unknown[0]}: {name} takes no such option; its options are {', '.join(known) or 'none'}")
    if seed is None:
        return factory(input_shape, classes, **options)
    with fixed_seed(seed, torch.device("cpu")):
        return factory(input_shape, classes, **options)


def mlp(input_shape: Sequence[int], classes: int, widths: Sequence[int] = (512, 512)) -> nn.Sequential:
    """Fully connected layers of the given widths, with ReLU between them; any input shape."""
    sizes = [math.prod(input_shape), *widths]
    hidden = [(nn.Linear(fan_in, fan_out), nn.ReLU()) for fan_in, fan_out in zip(sizes, sizes[1:], strict=False)]
    return nn.Sequential(nn.Flatten(), *(layer for pair in hidden for layer in pair), nn.Linear(sizes[-1], classes))


def cnn(
    input_shape: Sequence[int], classes: int, channels: Sequence[int] = (16, 32), hidden: int = 128
) -> nn.Sequential:
    """Blocks of 3 x 3 convolution, batch-norm, ReLU and 2 x 2 max-pooling, then two fully connected layers."""
    # Every block halves the sides, rounding down; the last map keeps a pixel at least.
    fan_in, height, width = _image_shape(input_shape, at_least=2 ** len(channels))
    blocks: list[nn.Module] = []
    for fan_out in channels:
        blocks += [nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
        blocks += [nn.MaxPool2d(2)]
        fan_in, height, width = fan_out, height // 2, width // 2
    features = fan_in * height * width
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a skip, relu(f(x) + skip(x)); the skip is 1 x 1 where the shapes differ."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(fan_in, fan_out, 3, stride), nn.ReLU(), *_convolution(fan_out, fan_out, 3)
        )
        same = stride == 1 and fan_in == fan_out
        self.skip = nn.Identity() if same else nn.Sequential(*_convolution(fan_in, fan_out, 1, stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, fan_in, H, W) to (N, fan_out, ceil(H / stride), ceil(W / stride))."""
        return self.relu(self.body(x) + self.skip(x))


def resnet(
    input_shape: Sequence[int], classes: int, width: int = 16, blocks: Sequence[int] = (2, 2, 2)
) -> nn.Sequential:
    """Residual network for small images: 3 x 3 stem, stages of `BasicBlock`, global average, one linear layer."""
    # K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016, figure 2, section 3.3 (option B) and
    # section 4.2. Each stage after the first halves the sides and doubles the channels.
    channels, _, _ = _image_shape(input_shape)
    layers: list[nn.Module] = [*_convolution(channels, width, 3), nn.ReLU()]
    fan_in = width
    for stage, count in enumerate(blocks):
        fan_out = width * 2**stage
        first = BasicBlock(fan_in, fan_out, stride=1 if stage == 0 else 2)
        layers.append(nn.Sequential(first, *(BasicBlock(fan_out, fan_out, stride=1) for _ in range(count - 1))))
        fan_in = fan_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, classes))


def resnet18(input_shape: Sequence[int], classes: int) -> nn.Sequential:
    """ResNet-18 with the stem for small images: width 64, four stages of two blocks, 11.2 million parameters."""
    return resnet(input_shape, classes, width=64, blocks=(2, 2, 2, 2))


# Expansion, output channels, number of blocks, stride of the first.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """Expand by a 1 x 1, filter depthwise by a 3 x 3, project by a 1 x 1 convolution; add x where the shapes agree."""

    def __init__(self, fan_in: int, fan_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = fan_in * expansion
        expand = [*_convolution(fan_in, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = [*_convolution(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6()]
        self.body = nn.Sequential(*expand, *depthwise, *_convolution(hidden, fan_out, 1))
        self.residual = stride == 1 and fan_in == fan_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, fan_in, H, W) to (N, fan_out, ceil(H / stride), ceil(W / stride))."""
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet(input_shape: Sequence[int], classes: int, dropout: float = 0.2) -> nn.Sequential:
    """MobileNetV2 at full width: 3.5 million parameters with 1000 classes; five halvings at 224 pixels."""
    # M. Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, tables 1 and 2.
    channels, height, width = _image_shape(input_shape)
    strides = [2, *(stride for *_, stride in _STAGES)]
    # Smaller images are halved fewer times, the earliest first to go, so that the last map keeps sides of at least 4.
    surplus = strides.count(2) - max(0, (min(height, width) // 4).bit_length() - 1)
    for position in [index for index, stride in enumerate(strides) if stride == 2][: max(0, surplus)]:
        strides[position] = 1
    layers: list[nn.Module] = [*_convolution(channels, 32, 3, strides[0]), nn.ReLU6()]
    fan_in = 32
    for (expansion, fan_out, count, _), stride in zip(_STAGES, strides[1:], strict=True):
        for block in range(count):
            layers.append(InvertedResidual(fan_in, fan_out, stride if block == 0 else 1, expansion))
            fan_in = fan_out
    head = [*_convolution(fan_in, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, *head, nn.Linear(1280, classes))


class NonNegativeLinear(nn.Module):
    """Linear map without offsets whose slopes are |raw| >= 0, whatever an optimizer does to `raw`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        # Slopes of one sign do not cancel: their mean, not their spread, carries the size of a signal through.
        self.raw = nn.Parameter(torch.rand(out_features, in_features) * 2 / in_features)

    def forward(self, z: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features)."""
        return F.linear(z, self.raw.abs())


class InputConvex(nn.Module):
    """z[1] = relu(W[0] x + b[0]), z[l+1] = relu(U[l] z[l] + W[l] x + b[l]) with U >= 0; no ReLU at the end."""

    def __init__(self, in_features: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [*widths, classes]
        self.flatten = nn.Flatten()
        self.from_input = nn.ModuleList(nn.Linear(in_features, size) for size in sizes)
        self.from_hidden = nn.ModuleList(
            NonNegativeLinear(before, after) for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits (N, C), each convex in x."""
        # A convex non-decreasing function (ReLU) of convex functions, added with weights U >= 0 to an affine one, is
        # convex; hence every output is, and the whole network is one max-affine spline.
        x = self.flatten(x)
        z = self.from_input[0](x)
        for from_input, from_hidden in zip(list(self.from_input)[1:], self.from_hidden, strict=True):
            z = from_hidden(self.relu(z)) + from_input(x)
        return z


def input_convex(input_shape: Sequence[int], classes: int, widths: Sequence[int] = (128, 128)) -> InputConvex:
    """Input-convex network with skip connections from the input to every layer; any input shape."""
    # B. Amos, L. Xu, J. Z. Kolter, Input Convex Neural Networks, ICML 2017, equation 2 and proposition 1.
    return InputConvex(math.prod(input_shape), classes, widths)


class ReluRnn(nn.Module):
    """h[t] = relu(W x[t] + W_r h[t-1] + b); the last state gives the logits."""

    def __init__(self, row: int, classes: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(row, hidden, num_layers=layers, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(hidden, classes)
        # The identity passes states on unchanged, so that at first neither they nor their gradients vanish or explode:
        # Q. V. Le, N. Jaitly, G. E. Hinton, A Simple Way to Initialize Recurrent Networks of Rectified Linear Units,
        # arXiv 1504.00941, 2015.
        with torch.no_grad():
            for layer in range(layers):
                nn.init.eye_(getattr(self.rnn, f"weight_hh_l{layer}"))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits (N, C) of sequences (N, T, D), or of images (N, C, H, W), whose H rows are the steps."""
        rows = x if x.ndim == 3 else x.transpose(1, 2).flatten(2)
        states, _ = self.rnn(rows)
        return self.head(states[:, -1])


def relu_rnn(input_shape: Sequence[int], classes: int, hidden: int = 64, layers: int = 1) -> ReluRnn:
    """Recurrent ReLU network over the rows of an image, or over the steps of a sequence."""
    if len(input_shape) not in (2, 3):
        raise BadInput(
            f"input_shape: {tuple(input_shape)} is neither (channels, height, width) nor (steps, features); "
            "mlp takes any shape"
        )
    row = input_shape[1] if len(input_shape) == 2 else input_shape[0] * input_shape[2]
    return ReluRnn(row, classes, hidden, layers)


class Patches(nn.Module):
    """The patches of an image as tokens: one linear map of each patch, and a learned vector for its position."""

    def __init__(self, channels: int, patch: int, width: int, count: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn(count, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, count, width)."""
        return self.embed(x).flatten(2).transpose(1, 2) + self.position


class MeanToken(nn.Module):
    """The mean over the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, width) to (N, width)."""
        return x.mean(1)


def vit(
    input_shape: Sequence[int], classes: int, patch: int = 4, width: int = 64, blocks: int = 4, heads: int = 4
) -> nn.Sequential:
    """Vision transformer over the patches of a small image, whose mean token gives the logits."""
    # A. Dosovitskiy et al., An Image Is Worth 16x16 Words, ICLR 2021, section 3.1, with the mean token of X. Zhai et
    # al., Scaling Vision Transformers, CVPR 2022, section 3.1, in place of a class token.
    channels, height, breadth = _image_shape(input_shape, at_least=patch)
    if height % patch or breadth % patch:
        raise BadInput(f"patch: {patch} does not divide {height} x {breadth} pixels; choose a divisor of both sides")
    if width % heads:
        raise BadInput(f"heads: {heads} does not divide a token of width {width}; choose a divisor")
    tokens = Patches(channels, patch, width, (height // patch) * (breadth // patch))
    body = [
        nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        for _ in range(blocks)
    ]
    return nn.Sequential(tokens, *body, nn.LayerNorm(width), MeanToken(), nn.Linear(width, classes))


_STEM = 2  # side of the stem's patches: 4 in the paper, whose images are larger
_SCALE = 1e-1  # of each block at first: 1e-6 in the paper, whose trainings are longer


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, (N, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, H, W)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """x + scale * f(x), f a 7 x 7 depthwise convolution, layer norm, and two 1 x 1 convolutions with GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            ChannelNorm(width),
            nn.Conv2d(width, 4 * width, 1),
            nn.GELU(),
            nn.Conv2d(4 * width, width, 1),
        )
        self.scale = nn.Parameter(torch.full((width, 1, 1), _SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        return x + self.scale * self.body(x)


def convnext(
    input_shape: Sequence[int], classes: int, widths: Sequence[int] = (32, 64), blocks: Sequence[int] = (2, 2)
) -> nn.Sequential:
    """ConvNeXt for small images: a stem of 2 x 2 patches, stages of blocks, global average, one linear layer."""
    # Z. Liu et al., A ConvNet for the 2020s, CVPR 2022, section 2, figure 4, and appendix A.1 for the scale of a block.
    # Each stage after the first halves the sides.
    fan_in, _, _ = _image_shape(input_shape, at_least=_STEM ** len(widths))
    layers: list[nn.Module] = []
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        halving = nn.Conv2d(fan_in, width, _STEM, stride=_STEM)
        layers += [halving, ChannelNorm(width)] if stage == 0 else [ChannelNorm(fan_in), halving]
        layers += [ConvNeXtBlock(width) for _ in range(count)]
        fan_in = width
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(fan_in)]
    return nn.Sequential(*layers, *pooled, nn.Linear(fan_in, classes))


class Normalized(nn.Module):
    """A network that takes what its data holds: model((x - mean) / std), channel by channel."""

    # The normalization is affine, so the whole has an exact spline form, whose templates and offsets speak of the data
    # as it is, e.g. of pixels in [0, 1].
    mean: Tensor  # one number, or one for each of the C channels (of the D columns of a table)
    std: Tensor  # the same; all above 0

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        like = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), torch.zeros(()))
        for name, values in (("mean", mean), ("std", std)):
            numbers = torch.tensor(values, dtype=like.dtype, device=like.device)
            allowed = numbers.isfinite() & ((numbers > 0) | (name == "mean"))
            if numbers.ndim != 1 or not len(numbers) or not allowed.all():
                limits = "finite numbers above 0" if name == "std" else "finite numbers"
                raise BadInput(f"{name}: {list(values)} are not {limits}; give one, or one per channel")
            self.register_buffer(name, numbers)
        self.model = model
        self.training = model.training  # an exported model has no train()

    def forward(self, x: Tensor) -> Tensor:
        """What the network gives at the normalized inputs (N, C, ...)."""
        shape = (-1, *[1] * (x.ndim - 2))
        return self.model((x - self.mean.reshape(shape)) / self.std.reshape(shape))


def _image_shape(input_shape: Sequence[int], at_least: int = 1) -> tuple[int, int, int]:
    """The (channels, height, width) of an image, its sides at least so long."""
    if len(input_shape) != 3 or min(input_shape) < 1 or min(input_shape[1:]) < at_least:
        raise BadInput(
            f"input_shape: {tuple(input_shape)} is not (channels, height, width) with sides of at least {at_least}; "
            "choose another network (mlp takes any shape) or larger images"
        )
    channels, height, width = input_shape
    return channels, height, width


def _convolution(fan_in: int, fan_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the sides but for the stride, and batch-norm, whose shift makes a bias superfluous."""
    convolution = nn.Conv2d(fan_in, fan_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(fan_out)]


FACTORIES: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        factory.__name__.replace("_", "-"): factory
        for factory in (mlp, cnn, resnet, resnet18, mobilenet, input_convex, relu_rnn, vit, convnext)
    }
)
