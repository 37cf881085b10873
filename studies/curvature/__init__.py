"""Curvature tuning of published and own networks on other data: clean, noisy and attacked inputs."""
