"""Rows of words as tables."""

from __future__ import annotations

from maxaffine._drawing import html_table, text_table

ROWS = [("operator", "pieces"), ("relu", "2")]


def test_numbers_end_on_the_right_but_for_names() -> None:
    assert text_table(ROWS) == "operator  pieces\nrelu           2"
    assert text_table([("name", "kind"), ("0", "a"), ("12", "b")], "  ") == "  name  kind\n  0     a\n  12    b"


def test_html_is_escaped_and_rows_stand_out() -> None:
    table = "<table><tr><th>operator</th><th>pieces</th></tr><tr><td>relu</td><td>2</td></tr></table>"
    assert html_table(ROWS) == table
    marked = html_table([("a", "b"), ("<", "&")], "c", strong=[1])
    assert "<caption>c</caption>" in marked and '<tr style="font-weight:600"><td>&lt;</td><td>&amp;</td>' in marked
