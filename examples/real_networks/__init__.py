"""Three published networks in their exact spline form: ``python -m examples.real_networks`` writes the pictures."""
