"""How many affine pieces functions need, and what networks without offsets cost: docs/universality.md."""
