"""Tables in text files against Python's own reading of the same lines, and every refusal by line and column."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_wine

from maxaffine._data import DataSet, load, load_part, tables
from maxaffine.errors import BadInput, DataError
from tests.tables import targets_of, write_bunch

HOUSES = "rooms,age,price\n" + "".join(f"{i % 7},{i / 4},{1000 + i / 8}\n" for i in range(40))


def _write(folder: Path, text: str, name: str = "houses.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def _rows(data: DataSet) -> np.ndarray:
    """Features and targets (or names of classes) of every row, in the order of the first column, then the others."""
    parts = []
    for part in (data.train, data.test):
        words = np.array([[data.class_names[label]] for label in part.labels.tolist()])
        parts.append(np.concatenate([part.inputs.numpy(), words if part.targets is None else part.targets.numpy()], 1))
    rows = np.concatenate(parts)
    return rows[np.lexsort(rows.T[::-1])]


def _same(data: DataSet, text: str, delimiter: str = ",") -> bool:
    """Whether the rows are those of the text, number by number, read independently."""
    lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter) if line][1:]
    wanted = np.array([[np.float32(cell.replace(",", ".")) for cell in line] for line in lines])
    return np.array_equal(_rows(data), wanted[np.lexsort(wanted.T[::-1])])


def test_a_table_of_values(tmp_path):
    data = load(_write(tmp_path, HOUSES))
    assert (data.feature_names, data.target_names) == (("rooms", "age"), ("price",))
    assert data.set_aside and len(data.test) == 8 and data.outputs == 1 and data.class_names == ("unlabeled",)
    assert targets_of(data.train).shape == (32, 1) and _same(data, HOUSES)
    assert repr(data).endswith("train 32, test 8, 1 targets: price)")
    assert load(tmp_path / "houses.csv", target="age").feature_names == ("rooms", "price")


def test_several_targets_and_columns_left_out(tmp_path):
    text = "id,a,b,day,c\n" + "".join(f"x{i},{i},{i * i},2020-01-0{i % 9 + 1},{i / 3}\n" for i in range(30))
    data = load(_write(tmp_path, text), target=["c", "a"], drop="id, day")
    assert (data.feature_names, data.target_names, data.outputs) == (("b",), ("c", "a"), 2)
    assert torch.equal(data.train.inputs[:, 0], targets_of(data.train)[:, 1] ** 2)
    part, names = load_part(tmp_path / "houses.csv", target="c,a", drop="id,day")
    assert len(names) == 2 and torch.equal(targets_of(part), targets_of(data.train))


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        (HOUSES.replace(",", "\t"), "\t"),
        (HOUSES.replace(",", ";"), ";"),
        (HOUSES.replace(",", ";").replace(".", ","), ";"),  # decimal commas
        ("\ufeff" + HOUSES.replace("rooms", '"number, of; rooms"').replace("\n", "\r\n"), ","),
        (HOUSES.replace("0,0.0", '"0"," 0.0 "') + "\n\n", ","),
        ("a;b\n" + "".join(f"{i},125;{i * 1000},5\n" for i in range(20)), ";"),  # 1,125 is clear beside 1000,5
    ],
)
def test_delimiters_quotes_and_marks(tmp_path, text, delimiter):
    assert _same(load(_write(tmp_path, text)), text.replace("\ufeff", ""), delimiter)


def test_blocks_hide_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 7)
    assert _same(load(_write(tmp_path, HOUSES)), HOUSES)
    broken = HOUSES.splitlines()
    broken[33] = "3,old,1004"
    with pytest.raises(DataError, match="line 34, column 'age': holds text"):
        load(_write(tmp_path, "\n".join(broken)))


def test_whole_numbers_are_classes_where_they_are_few(tmp_path):
    write_bunch(tmp_path / "wine.csv", load_wine())
    data = load(tmp_path / "wine.csv")
    assert data.class_names == ("0", "1", "2") and data.train.targets is None and data.target_names == ("target",)
    assert load(tmp_path / "wine.csv", task="value").train.targets is not None
    write_bunch(tmp_path / "d.csv", load_diabetes(scaled=False), lambda y: int(y))
    assert load(tmp_path / "d.csv").train.targets is not None  # 214 different ones
    assert load(tmp_path / "d.csv", target="sex").outputs == 1  # written as 1.0 and 2.0
    assert load(tmp_path / "d.csv", target="sex", task="classes").class_names == ("1.0", "2.0")
    two = "a,b\n" + "".join(f"{i},{i % 2}\n" for i in range(10))
    assert load(_write(tmp_path, two)).class_names == ("0", "1")
    assert load(_write(tmp_path, two.replace(",1\n", ",10\n").replace(",0\n", ",9\n"))).class_names == ("9", "10")


def test_text_is_classes_by_name(tmp_path):
    text = "a,b,kind\n" + "".join(f"{i},{-i},{('oak', ' elm', 'Ash')[i % 3]}\n" for i in range(30))
    data = load(_write(tmp_path, text))
    assert data.class_names == ("Ash", "elm", "oak")
    assert {(round(float(a)) % 3, word) for a, _, word in _rows(data)} == {(0, "oak"), (1, "elm"), (2, "Ash")}
    assert load(tmp_path / "houses.csv", class_names="oak,elm,Ash,fir").class_names[0] == "oak"


ROWS = "".join(f"{i},{i / 4},{i / 8}\n" for i in range(1, 20))


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (
            "a,b,c\n0,,1.5\n" + ROWS,
            {},
            "line 2, column 'b': has a missing value .''., and none is made up; leave .*drop='b'",
        ),
        ("a,b,c\n" + ROWS + "9,NA,1.5", {}, "line 21, column 'b': has a missing value .'NA'"),
        ("a,b,c\n0,1,\n" + ROWS, {}, "line 2, column 'c': has a missing value"),
        ("a,b,c\nx,1,2.5\n" + ROWS, {}, "line 2, column 'a': holds text .'x'., not a number; leave the column out"),
        ("a,b,c\nx,y,2.5\n" + ROWS, {}, r"\(so have 'b'\), .*drop='a,b'"),
        ("a,b,c\n2024-01-31,1,2.5\n" + ROWS, {}, "column 'a': holds a date .'2024-01-31'.*write days since"),
        ("a,b,c\n1,1e39,2.5\n" + ROWS, {}, "column 'b': holds '1e39', beyond what float32 holds"),
        ("a,b,c\n1_000,1,2.5\n" + ROWS, {}, "column 'a': holds text .'1_000'"),
        ('a,b,c\n"1,5",1,2.5\n' + ROWS, {}, "column 'a': holds '1,5', whose comma may be"),
        ("a,b,c\n1,2\n" + ROWS, {}, "line 2 has 2 fields, but the header names 3 .between commas"),
        ("a,b,c\n1,2,3,4\n" + ROWS, {}, "line 2 has 4 fields"),
        ('a,b,c\n1,"2"x,3\n' + ROWS, {}, "line 2 cannot be read .*mend its quotes"),
        ("a,a,c\n" + ROWS, {}, "line 1 names two columns 'a'"),
        (",b,c\n" + ROWS, {}, r"line 1, column 1 has no name .*to_csv\(index=False\)"),
        (ROWS, {}, "line 1 holds numbers alone; put a line with the names"),
        ("", {}, "is empty"),
        ("a,b,c\n", {}, "has a line of names and no rows"),
        ("a,b,c\n1,2,7\n1,3,7\n", {}, "column 'c' holds '7' in every row, so there is nothing to predict"),
        ("a,b,c\n" + ROWS + "1,2,x\n", {}, "line 21, column 'c': holds text .*or pass task=\"classes\""),
        (
            "a,b,c\n" + "".join(f"{i},1,word{i}\n" for i in range(20)),
            {},
            "20 different texts in 20 rows.*hardly classes",
        ),
        ("a,b,c\n" + "1,2,2024-01-31\n1,2,2024-02-28\n" * 9, {}, "'2024-01-31', which are hardly classes"),
        ("a,b,c\n" + "1,2,x\n1,2,y\n" * 9, {"task": "value"}, "line 2, column 'c': holds text"),
        ("a;b\n1,5;2.5\n2,5;3.5\n", {}, "points at line 2, column 'b' .'2.5'. and commas at line 2, column 'a'"),
        (
            "a;b\n1,500;2\n2,750;3\n",
            {},
            "the comma at line 2, column 'a' .'1,500'. may be a decimal one or separate",
        ),
        ("a;b\n1.234,5;2\n2;3\n", {}, "holds text .'1.234,5'|whose comma may be"),
        ("only\n1\n2\n", {}, "no column is left beside the target"),
    ],
)
def test_refusals_name_line_column_cause_and_cure(tmp_path, text, options, words):
    with pytest.raises(DataError, match=words) as raised:
        load(_write(tmp_path, text), **options)
    assert str(raised.value).startswith(str(tmp_path / "houses.csv"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "prise"}, "^target: .*no column 'prise'; did you mean 'price'. its columns are rooms, age, price"),
        ({"drop": "agee"}, "^drop: .*no column 'agee'; did you mean 'age'"),
        ({"drop": "price", "target": "price"}, "^drop: 'price' is the target too"),
        ({"target": "price,age", "task": "classes"}, "^task: classes are those of one column, not of price, age"),
        ({"task": "number"}, "^task: 'number' is not a task"),
        ({"channels": "first"}, "^channels: does not apply to a table"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, words):
    path = _write(tmp_path, HOUSES)
    with pytest.raises(BadInput, match=words):
        load(path, **options)


def test_other_sources_have_no_columns(tmp_path):
    with pytest.raises(BadInput, match="target: does not apply to digits"):
        load("digits", target="a")
    with pytest.raises(BadInput, match="drop: does not apply to digits"):
        load("digits", drop="a")


def test_text_that_is_not_utf_8(tmp_path):
    with pytest.raises(DataError, match="is not text in UTF-8 .*CSV UTF-8"):
        load(_write(tmp_path, HOUSES.replace("rooms", "Zähler"), encoding="latin-1"))
