"""A network of inverted residuals and ReLU6, after MobileNetV2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .shapes import image_shape

# Expansion, output channels, number of blocks, stride of the first: table 2 of the paper.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def _convolution(fan_in: int, fan_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(fan_in, fan_out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(fan_out)]


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
    """MobileNetV2 at full width: 3.5 million parameters with 1000 classes; five halvings at 224 pixels.

    Smaller images are halved fewer times, the earliest first to go, so that the last map keeps sides of at least 4.

    Args:
        input_shape: (channels, height, width) of one image.
        classes: Number of logits C.
        dropout: Share of the features dropped before the last layer in training.

    Returns:
        Module from (N, *input_shape) to logits (N, C).

    >>> sum(p.numel() for p in mobilenet((3, 224, 224), 1000).parameters())
    3504872

    Source: M. Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, tables 1 and 2.
    """
    channels, height, width = image_shape(input_shape)
    strides = [2, *(stride for *_, stride in _STAGES)]
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
