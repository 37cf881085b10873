"""The study of generators: what sampling by volume changes, and what it does not."""
