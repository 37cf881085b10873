"""How finely a partition divides the neighbourhood of samples, also through a training."""
