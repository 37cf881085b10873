"""What to add to a training: penalties on templates and centroids, noise on initial states, a record of the codes."""

from maxaffine._learning.centroid_alignment import CentroidAlignment
from maxaffine._learning.drift import CodeDrift
from maxaffine._learning.hard import orthogonal_classifier
from maxaffine._learning.initial_state_noise import InitialStateNoise, NoiseEffect
from maxaffine._learning.orthogonal_templates import OrthogonalTemplates
