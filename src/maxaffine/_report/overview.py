"""The whole plane around a part of it that a page shows exactly: sampled answers, the three inputs, and the part."""

from collections.abc import Callable, Mapping
from html import escape

import numpy as np

from maxaffine._drawing import CLASSES, LIGHTER, LIGHTER_BANDS, png_of
from maxaffine._report.figures import input_panel
from maxaffine._report.layout import data_uri
from maxaffine._report.sections.cut import Cut, Overview

WIDTH, THUMBNAIL, AWAY, TEXT, ROOM = 320, 40, 34, 12, 84
# No name stands where there is hardly any area, and the part is never drawn smaller.
NAMED, SMALLEST = 0.02, 14


def overview_svg(cut: Cut, inputs: Mapping[int, np.ndarray], name: Callable[[int], str], pictured: bool) -> str:
    """One ``svg`` element: what the network answers over the whole rectangle, every input marked, the part outlined."""
    seen = cut.overview
    if seen is None:
        return ""
    left, right, bottom, top = seen.window
    scale = WIDTH / (right - left)
    height = (top - bottom) * scale

    def at(point: np.ndarray) -> tuple[float, float]:
        return (float(point[0]) - left) * scale, (top - float(point[1])) * scale

    parts = [f'<rect width="{WIDTH}" height="{height:.1f}" fill="#dfe4e8"/>']
    if seen.answers is not None:
        png = data_uri(png_of(_colors(seen.answers)))
        parts.append(f'<image href="{png}" width="{WIDTH}" height="{height:.1f}" preserveAspectRatio="none"/>')
        parts += [_text(words, *at(place)) for words, place in _names(seen, name, ROOM / scale)]
    (x, y), (far, low) = at(seen.part[[0, 3]]), at(seen.part[[1, 2]])
    # A part of a thousandth of the width is not to be missed either.
    across, down = max(far - x, SMALLEST), max(low - y, SMALLEST)
    x, y = (x + far - across) / 2, (y + low - down) / 2
    for color, width in (("#fff", 4), ("#111", 2)):
        box = f'x="{x:.1f}" y="{y:.1f}" width="{across:.1f}" height="{down:.1f}"'
        parts.append(f'<rect {box} fill="none" stroke="{color}" stroke-width="{width}"/>')
    for number, corner in zip(cut.anchors, seen.corners, strict=True):
        parts.append(_marked(inputs.get(number) if pictured else None, number, *at(corner), height))
    marks = f"test inputs {', '.join(map(str, cut.anchors))}"
    alt = f"The whole plane with {marks} marked, and the part that is shown exactly outlined"
    view = f'viewBox="0 0 {WIDTH} {height:.1f}"'
    return f'<svg class="overview" role="img" aria-label="{escape(alt)}" {view}>{"".join(parts)}</svg>'


def _colors(answers: np.ndarray) -> np.ndarray:
    """(H, W, 3) bytes: classes in their colors, values from the least to the largest."""
    if answers.dtype.kind == "i":
        palette = np.array([[int(color[place : place + 2], 16) for place in (1, 3, 5)] for color in CLASSES])
        mixed = palette[answers % len(palette)] * (1 - LIGHTER) + 255 * LIGHTER
    else:
        from matplotlib import colormaps

        low, reach = answers.min(), float(np.ptp(answers)) or 1.0
        mixed = colormaps["viridis"]((answers - low) / reach)[..., :3] * 255 * (1 - LIGHTER_BANDS) + 255 * LIGHTER_BANDS
    return mixed.round().astype(np.uint8)


def _names(seen: Overview, name: Callable[[int], str], room: float) -> list[tuple[str, np.ndarray]]:
    """The name of every class that is seen, and where: near its middle, but beside what marks the inputs."""
    if seen.answers is None or seen.answers.dtype.kind != "i":
        return []
    left, right, bottom, top = seen.window
    down, across = seen.answers.shape
    x = left + (np.arange(across) + 0.5) * (right - left) / across
    y = top - (np.arange(down) + 0.5) * (top - bottom) / down
    points = np.stack(np.meshgrid(x, y), -1)
    free = (np.linalg.norm(points[:, :, None] - seen.corners, axis=-1) > room).all(-1)
    found = []
    for number in np.unique(seen.answers).tolist():
        own = seen.answers == number
        if own.sum() < NAMED * own.size:
            continue
        # The middle itself may lie in another class; where no place is free, the nearest one is taken.
        places = points[own & free] if (own & free).any() else points[own]
        away = np.linalg.norm(places - points[own].mean(0), axis=1)
        found.append((name(number), places[away.argmin()]))
    return found


def _marked(picture: np.ndarray | None, number: int, x: float, y: float, height: float) -> str:
    """A dot at an input, its picture beside it on the side that has more room, and its number below."""
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#fff" stroke="#111" stroke-width="2"/>'
    words = f"input {number}"
    if picture is None:
        return dot + _text(words, min(max(x, 30), WIDTH - 30), y + 2 + TEXT if y < height / 2 else y - 2 - TEXT)
    middle = x + (AWAY if x < WIDTH / 2 else -AWAY)
    low = min(max(y - THUMBNAIL / 2, 4), height - THUMBNAIL - TEXT - 6)
    frame = f'x="{middle - THUMBNAIL / 2:.1f}" y="{low:.1f}" width="{THUMBNAIL}" height="{THUMBNAIL}"'
    image = f'<image href="{data_uri(input_panel(picture, 2 * THUMBNAIL))}" {frame}/>'
    line = f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{middle:.1f}" y2="{low + THUMBNAIL / 2:.1f}" stroke="#111"/>'
    edge = f'<rect {frame} fill="none" stroke="#fff" stroke-width="2"/>'
    return line + image + edge + _text(words, middle, low + THUMBNAIL + TEXT * 0.8) + dot


def _text(words: str, x: float, y: float) -> str:
    """Words about a place, readable on any color."""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{TEXT}">{escape(words)}</text>'
