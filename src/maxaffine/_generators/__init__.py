"""The geometry of generators: spectra, volumes, even sampling, densities, and the whole surface of two latents."""

from maxaffine._generators.density import Density, Entropy, density, entropy
from maxaffine._generators.dimension import DropoutDimension, Elbow, dimension_by_dropout, elbow
from maxaffine._generators.manifold import Manifold, manifold, manifold_of
from maxaffine._generators.sampling import Samples, sample
from maxaffine._generators.spectrum import LocalDimension, column_cosines, local_dimension, log_volume, spectrum
