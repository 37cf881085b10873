"""Gaussian random fields and a network on crops of them: what its templates say by distance, and what by direction."""
