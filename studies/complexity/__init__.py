"""How the partition around data changes while a network memorises or generalises."""
