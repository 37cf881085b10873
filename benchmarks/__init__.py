"""Speed and memory against the peers, as ratios taken in one run: ``python -m benchmarks --help``."""
