"""Does the distance of boundaries say which units a network can do without? See docs/spline-pruning.md."""
