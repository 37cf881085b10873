"""Where a command's words go: findings to stdout, unless JSON has it to itself, and progress to a terminal."""

from __future__ import annotations

import argparse
import sys

DONE, FAILED, INTERRUPTED = 0, 1, 130


def say(arguments: argparse.Namespace, text: str) -> None:
    """Print one finding on stdout, which belongs to the JSON alone where that is asked for."""
    if not arguments.json:
        print(text, flush=True)


def progress(text: str) -> None:
    """Print what is being done, on a terminal only."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
