"""Plane subdivisions in flat arrays, and their division by the zero sets of functions; knows nothing of networks."""
