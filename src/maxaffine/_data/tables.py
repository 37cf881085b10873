"""Tables in text files (.csv, .tsv), a line for each row: read exactly or refused by line and column."""

import csv
import difflib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from .._progress import progress_bar
from ..errors import BadInput, DataError
from .dataset import UNLABELED, DataSet, printable, split_by_class
from .files import split_of

SUFFIXES = (".csv", ".tsv")
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
# Whole numbers are classes where there are at most so many, each for at least so many rows on average (or just two).
MOST_CLASSES, ROWS_PER_CLASS = 20, 10
BLOCK = 20_000
_LARGEST = float(np.finfo(np.float32).max)
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-"}
_WHOLE = re.compile(r"[-+]?[0-9]+")
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}")
# Between semicolons a decimal comma, or else a comma between thousands: nobody can tell.
_EITHER = re.compile(r"[-+]?[1-9][0-9]{0,2},[0-9]{3}")


def is_table(path: Path) -> bool:
    """Whether a file is read as a table."""
    return path.suffix.lower() in SUFFIXES


def load_table(
    path: Path, target: Sequence[str], drop: Sequence[str], task: str | None, test_fraction: float, seed: int
) -> DataSet:
    """Read a table whose first line names its columns, as `load` documents; the target is the last one by default."""
    try:
        return _Table(path, target, drop).read(task, test_fraction, seed)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not text in UTF-8 ({error.reason}); save it so (of Excel: CSV UTF-8)") from error


class _Table:
    """One file, and which of its columns are taken for what."""

    def __init__(self, path: Path, target: Sequence[str], drop: Sequence[str]) -> None:
        self.path, self.name = path, printable(path.stem)
        with self._open() as stream:
            first = next((line for line in stream if line.strip()), "")
        if not first:
            raise DataError(f"{path}: is empty; give a line of column names and a line for each row")
        # The sign that separates most names; names themselves may hold others between quotes.
        self.delimiter = max(DELIMITERS, key=lambda sign: len(next(csv.reader([first], delimiter=sign))))
        with self._open() as stream:
            self.header = [name.strip() for name in next(filter(None, csv.reader(stream, delimiter=self.delimiter)))]
        # Where numbers with a point, a comma, or a comma that may separate thousands were first seen, if semicolons
        # separate the fields.
        self.signs: dict[str, str] = {}
        self._check_header()
        self.target = [self._known(name, "target") for name in target]
        self.dropped = {self._known(name, "drop") for name in drop}
        kept = [name for name in self.header if name not in self.dropped]
        self.target = self.target or kept[-1:]
        if both := [name for name in self.target if name in self.dropped]:
            raise BadInput(f"drop: {both[0]!r} is the target too; name it once")
        self.features = [name for name in kept if name not in self.target]
        if not self.features:
            raise DataError(f"{path}: no column is left beside the target {self.target}; a table has a column for each")

    def read(self, task: str | None, test_fraction: float, seed: int) -> DataSet:
        """The rows as a data set."""
        features, targets, lines = self._columns()
        if not lines:
            raise DataError(f"{self.path}: has a line of names and no rows; add a line for each row")
        for name, words in targets.items():
            self._refuse_missing(name, words, lines)
        class_names = self._classes(task, targets)
        if class_names is None:
            # Only where nobody said so could these be classes after all.
            more = "" if task else ', or pass task="classes" where these are names'
            values = [self._numbers(name, words, lines, more) for name, words in targets.items()]
            whole = split_of(features, np.stack(values, 1), str(self.path))
        else:
            places = {name: place for place, name in enumerate(class_names)}
            labels = np.array([places[word] for word in next(iter(targets.values()))])
            whole = split_of(features, labels, str(self.path))
        self._check_signs()
        for name, words in targets.items():
            if len(set(words)) == 1:
                raise DataError(
                    f"{self.path}: column {name!r} holds {words[0]!r} in every row, so there is nothing to predict; "
                    "name another target"
                )
        found = split_by_class(self.name, whole, class_names or UNLABELED, test_fraction, seed)
        return replace(found, feature_names=tuple(self.features), target_names=tuple(self.target))

    def _classes(self, task: str | None, targets: dict[str, list[str]]) -> tuple[str, ...] | None:
        """The names of the classes, whole numbers in their order; None where the targets are values."""
        if len(targets) > 1 and task == "classes":
            raise BadInput(
                f"task: classes are those of one column, not of {', '.join(targets)}; name one as the target"
            )
        if len(targets) > 1 or task not in (None, "classes"):
            return None
        ((name, words),) = targets.items()
        whole = all(map(_WHOLE.fullmatch, words))
        if whole:  # 01 and 1 are one class
            words[:] = [str(int(word)) for word in words]
        distinct = set(words)
        numbers = [word for word in distinct if _number(word, self.delimiter) is not None]
        if task is None and numbers:
            few = len(distinct) <= max(2, min(MOST_CLASSES, len(words) // ROWS_PER_CLASS))
            return tuple(sorted(distinct, key=int)) if whole and few else None
        if task is None and (len(distinct) > max(2, len(words) / 2) or all(map(_DATE.fullmatch, distinct))):
            raise DataError(
                f"{self.path}: column {name!r} holds {len(distinct)} different texts in {len(words)} rows, such as "
                f'{words[0][:40]!r}, which are hardly classes; name another target, or pass task="classes"'
            )
        return tuple(sorted(distinct, key=int if whole else None))

    def _columns(self) -> tuple[np.ndarray, dict[str, list[str]], list[int]]:
        """The features (N, D), the words of the targets, and the line on which each row ends."""
        places = {name: place for place, name in enumerate(self.header)}
        blocks, lines = [], []
        targets: dict[str, list[str]] = {name: [] for name in self.target}
        with self._open() as stream, progress_bar(None, f"reading {self.name}", unit="row") as bar:
            rows = self._rows(stream)
            next(rows)
            while block := list(islice(rows, BLOCK)):
                # Column by column, since that is how numbers are read fast, and text is found.
                columns = list(zip(*(row for row, _ in block), strict=True))
                where = [line for _, line in block]
                found = {name: self._read(name, columns[places[name]], where) for name in self.features}
                if wrong := [name for name, numbers in found.items() if numbers is None]:
                    also = f" (so have {', '.join(map(repr, wrong[1:]))})" if len(wrong) > 1 else ""
                    words = columns[places[wrong[0]]]
                    raise self._no_number(wrong[0], words, where, also, f"drop={','.join(wrong)!r}")
                blocks.append(np.stack([numbers for numbers in found.values() if numbers is not None], 1))
                for name, words in targets.items():
                    words += map(str.strip, columns[places[name]])
                lines += where
                bar.update(len(block))
        return np.concatenate(blocks or [np.zeros((0, len(self.features)))]), targets, lines

    def _rows(self, stream: io.TextIOWrapper) -> Iterator[tuple[list[str], int]]:
        """The rows, header and all, with the lines that they end on; empty lines are none."""
        reader = csv.reader(stream, delimiter=self.delimiter, strict=True)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise DataError(
                    f"{self.path}: line {reader.line_num} cannot be read ({error}); mend its quotes"
                ) from error
            if row is None:
                return
            line = reader.line_num
            if row and len(row) != len(self.header):
                raise DataError(
                    f"{self.path}: line {line} has {len(row)} fields, but the header names {len(self.header)}"
                    f" (between {DELIMITERS[self.delimiter]}s); mend it, or quote fields that hold the sign"
                )
            if row:
                yield row, line

    def _read(self, name: str, words: Sequence[str], lines: list[int]) -> np.ndarray | None:
        """Fields as numbers, in double precision; None where one is not a finite number that float32 can hold."""
        joined = "\n".join(words)
        if self.delimiter == ";" and ("," in joined or "." in joined):
            for word, line in zip(words, lines, strict=True):
                sign = "." if "." in word else "," if "," in word else ""
                sign = "either" if _EITHER.fullmatch(word.strip()) else sign
                if sign not in self.signs:
                    self.signs[sign] = f"line {line}, column {name!r} ({word.strip()!r})"
            words = [word.replace(",", ".") for word in words]
        try:
            numbers = np.array(list(map(float, words)))
        except ValueError:
            return None
        with np.errstate(over="ignore"):
            finite = np.isfinite(numbers.astype(np.float32)).all()
        # Python takes an underscore for a separator of thousands.
        return numbers if finite and "_" not in joined else None

    def _check_signs(self) -> None:
        """Refuse numbers of which nobody can tell whether a sign in them is a decimal one."""
        commas = self.signs.get(",") or self.signs.get("either")
        if commas and "." in self.signs:
            raise DataError(
                f"{self.path}: numbers have points at {self.signs['.']} and commas at {commas}, one of which may"
                " separate thousands; write decimals in one way, and no thousands"
            )
        if "either" in self.signs and "," not in self.signs:
            raise DataError(
                f"{self.path}: the comma at {self.signs['either']} may be a decimal one or separate thousands; write"
                " such numbers as 1234 or 1.234"
            )

    def _no_number(
        self, name: str, words: Sequence[str], lines: list[int], also: str = "", drop: str = "", more: str = ""
    ) -> DataError:
        row = next(place for place, word in enumerate(words) if _number(word, self.delimiter) is None)
        word, leave = words[row].strip(), f"leave the column out with {drop}, or " if drop else ""
        at = f"{self.path}: line {lines[row]}, column {name!r}"
        if word.lower() in _MISSING:
            return DataError(f"{at}: has a missing value ({word!r}){also}, and none is made up; {leave}fill it in")
        if _DATE.fullmatch(word):
            return DataError(f"{at}: holds a date ({word!r}){also}, not a number; {leave}write days since some day")
        if re.fullmatch(r"[-+]?(inf(inity)?|[0-9.]+e[+]?[0-9]+)", word.lower()):
            return DataError(f"{at}: holds {word!r}{also}, beyond what float32 holds; {leave}change its unit")
        if re.search(r"[0-9],[0-9]", word):
            return DataError(
                f"{at}: holds {word!r}{also}, whose comma may be a decimal one or separate thousands; {leave}"
                "write numbers as 1234.5, or as 1234,5 between semicolons"
            )
        return DataError(f"{at}: holds text ({word[:40]!r}){also}, not a number; {leave}write it as numbers{more}")

    def _numbers(self, name: str, words: list[str], lines: list[int], more: str = "") -> np.ndarray:
        """The target as numbers."""
        found = self._read(name, words, lines)
        if found is None:
            raise self._no_number(name, words, lines, more=more)
        return found

    def _refuse_missing(self, name: str, words: list[str], lines: list[int]) -> None:
        if missing := [row for row, word in enumerate(words) if word.lower() in _MISSING]:
            raise self._no_number(name, [words[missing[0]]], [lines[missing[0]]])

    def _check_header(self) -> None:
        if all(_number(name, self.delimiter) is not None for name in self.header):
            raise DataError(f"{self.path}: line 1 holds numbers alone; put a line with the names of the columns first")
        if "" in self.header:
            raise DataError(
                f"{self.path}: line 1, column {self.header.index('') + 1} has no name (an index that pandas wrote? then"
                " to_csv(index=False)); name every column"
            )
        if twice := [name for name in self.header if self.header.count(name) > 1]:
            raise DataError(f"{self.path}: line 1 names two columns {twice[0]!r}; name each once")

    def _known(self, name: str, argument: str) -> str:
        if name not in self.header:
            close = difflib.get_close_matches(name, self.header, n=3)
            hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
            shown = ", ".join(self.header[:20]) + (" ..." if len(self.header) > 20 else "")
            raise BadInput(f"{argument}: {self.path} has no column {name!r}; {hint}its columns are {shown}")
        return name

    def _open(self) -> io.TextIOWrapper:
        return self.path.open(encoding="utf-8-sig", newline="")


def split_names(given: str | Sequence[str] | None) -> list[str]:
    """Names of columns: a sequence, or a text with commas."""
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given or ())
    return list(dict.fromkeys(name for name in names if name))


def _number(word: str, delimiter: str) -> float | None:
    """One field as a number, by the same rules as a column."""
    try:
        number = float(word.replace(",", ".") if delimiter == ";" else word)
    except ValueError:
        return None
    return number if abs(number) <= _LARGEST and "_" not in word else None
