"""How good a distance between signals the codes give, beside pixels, features and a network trained on photographs."""
