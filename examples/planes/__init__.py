"""Exact planes of published networks."""
