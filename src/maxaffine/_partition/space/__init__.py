"""In full input space: the region of one input as a polytope, and all regions of a small network."""
