"""How little a digit must change to be another: the figure of docs/decisions.md."""
