"""Four smooth networks trained here, and their maps: ``python -m examples.smooth_networks`` writes the pictures."""
