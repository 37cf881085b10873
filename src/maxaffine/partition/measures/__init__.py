"""How finely a partition divides the neighborhood of samples, also through a training."""
