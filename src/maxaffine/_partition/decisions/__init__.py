"""The nearest input of another class: the network as a program of rectifiers, its bounds, and branch and bound."""
