"""The command ``maxaffine``: one module per command, which parses, calls the rooms in order and prints the result."""

from .main import main
