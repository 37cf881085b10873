"""The command ``maxaffine``, so light that Ctrl-C ends it quietly also while the library is imported."""

from __future__ import annotations


def main() -> int:
    """Run the command.

    Returns:
        Its exit code, 130 for Ctrl-C.
    """
    try:
        from maxaffine._cli import main as run
    except KeyboardInterrupt:
        return 130
    return run()
