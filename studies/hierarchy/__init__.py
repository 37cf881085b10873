"""How the regions of deeper operators subdivide earlier ones on a data set, and how soon codes settle in training."""
