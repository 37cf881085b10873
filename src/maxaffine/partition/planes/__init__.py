"""On a plane: every region, its neighbours, and the decision boundary."""
