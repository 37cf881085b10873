"""On a plane: every region, its neighbors, and the decision boundary."""
