"""How the partition around data changes while a network memorizes or generalizes."""
