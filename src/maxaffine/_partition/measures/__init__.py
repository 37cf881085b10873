"""How finely a partition divides the neighborhood of samples, also during training."""
