"""Lance, the format of the store: imported where it is used, its errors turned into ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from maxaffine.errors import DataError, MaxAffineError, first_line


def load_lance() -> Any:
    """Import Lance.

    Returns:
        The module.

    Raises:
        MaxAffineError: If it is not installed.
    """
    try:
        import lance
    except ModuleNotFoundError as error:
        raise MaxAffineError("a code store needs pylance, which is absent; pip install 'maxaffine[store]'") from error
    return lance


@contextmanager
def naming_store(path: str) -> Iterator[None]:
    """Turn what Lance and Arrow raise, which is not one family, into an error that names the store.

    Args:
        path: The store.

    Yields:
        Nothing.

    Raises:
        MaxAffineError: Ours pass as they are, but for a DataError that does not name the store.
        DataError: In place of any other error.
    """
    try:
        yield
    except MaxAffineError as error:
        if isinstance(error, DataError) and path not in str(error):
            raise DataError(f"{path}: {error}; restore it, or encode the inputs again") from error
        raise
    except BaseException as error:
        # A panic of Lance, which some damage causes, is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if "commit conflict" in str(error):
            raise DataError(
                f"{path} was changed by another process at the same moment; nothing is lost, do it again"
            ) from error
        raise DataError(
            f"{path} could not be read or written: {told(error)}; check the path, that it is a store, permissions"
            " and free space; a damaged one has to be restored, or the inputs encoded again"
        ) from error


def told(error: BaseException) -> str:
    """What an error says, without the trace and the places in its own source that Lance adds."""
    return re.sub(r",? \S+\.rs:\d+(:\d+)?", "", first_line(error))
