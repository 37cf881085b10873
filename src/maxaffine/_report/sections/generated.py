"""What a generator of pictures does to volume: its spectrum, its most and least typical samples, its latent plane."""

from dataclasses import dataclass
from math import prod

import numpy as np

from maxaffine._drawing import is_image
from maxaffine._generators import Manifold, local_dimension, manifold_of
from maxaffine._report.facts import LeftOut
from maxaffine._report.sections.cut import Cut
from maxaffine._report.subject import Subject, as_array, spread_evenly

# Numbers that may be computed for the slopes at latents, each of which takes a pass for every latent number.
WORK = 5e9
FEWEST, SHOWN = 8, 5


@dataclass(frozen=True, eq=False)
class Generated:
    """How a generator stretches its latents, at some of those that were given."""

    latents: int
    numbers: int  # of a sample
    head: str  # the activation at its end, which counts; "" where there is none
    spectrum: np.ndarray  # (inputs, latents) singular values, the largest first
    volumes: np.ndarray  # (inputs,) their logarithms' sums
    dimensions: tuple[int, int]  # the least and the largest that was found
    # (n, *units) where the volume is smallest, and where it is largest.
    typical: np.ndarray
    unusual: np.ndarray
    surface: Manifold | None  # of two latents, on what is shown of their plane

    @property
    def inputs(self) -> int:
        """How many latents were asked."""
        return len(self.volumes)

    @property
    def ratio(self) -> float:
        """How many times as large the largest volume is as the smallest: how unevenly plain samples fall."""
        finite = self.volumes[np.isfinite(self.volumes)]
        return float(np.exp(min(np.ptp(finite), 700.0))) if len(finite) else 1.0


def generated_of(subject: Subject, cut: Cut | LeftOut) -> Generated | LeftOut | None:
    """What a generator of pictures does to volume; None of any other network."""
    net, given = subject.net, subject.data.input_shape
    numbers, latents = prod(subject.units), prod(given)
    # Few numbers, of which no two are neighbors, to a picture.
    if not (subject.meaning.valued and is_image(subject.units) and max(given) == latents <= numbers / 2):
        return None
    if net.gated:
        return LeftOut("Its gates are held, so A is not the Jacobian and has no volume; --smooth tangent has.")
    count = subject.affordable(WORK / latents, len(subject.test))
    if count < min(FEWEST, len(subject.test)):
        return LeftOut(f"The network computes {subject.work:,} numbers per input, too much for slopes at {FEWEST}.")
    z = subject.test[spread_evenly(len(subject.test), count)]
    ending = net.endings[subject.output] if net.endings else None
    found = local_dimension(net, z, output=subject.output, head=ending)
    volumes = as_array(found.log_volumes)
    order = np.argsort(volumes, kind="stable")
    samples = subject.own(z).reshape(len(z), *subject.units)
    samples = as_array(samples if ending is None else ending(samples))
    surface = None
    if latents == 2 and isinstance(cut, Cut) and net.piecewise_affine:
        surface = manifold_of(cut.partition)
    return Generated(
        latents=latents,
        numbers=numbers,
        head="" if ending is None else ending.name,
        spectrum=as_array(found.spectrum),
        volumes=volumes,
        dimensions=(int(found.dimensions.min()), int(found.dimensions.max())),
        typical=samples[order[:SHOWN]],
        unusual=samples[order[::-1][:SHOWN]],
        surface=surface,
    )
