"""The sections of the page on codes: computing, encoding, comparing and searching them."""

from __future__ import annotations

from statistics import median
from typing import Any

from . import distance, search
from .markdown import number, table

ENCODE = """
## Encoding a data set into a store, beside the plain forward pass

Throughput of the plain forward pass in batches of 256 is 1. "Codes" are computed and packed; "encode" is the work
of `maxaffine encode`: codes with their checksums, appended to a store on disk. Fashion-MNIST images, all operators.
"""

SEARCH = f"""
## Nearest neighbors in code distance

The {search.K} nearest of all rows to each of {search.QUERIES} queries. Rows and queries are noisy copies of 1,000
prototypes (15% of the bits flipped). All contestants get the same bits, padded with zeros to whole 8-byte words; the
exact ones find the same distances. The approximate ones have as many lists: ours is prepared with its defaults, faiss'
IVF keeps all bits and probes as many lists (a power of two) as it needs for the recall that ours has. Recall is on the
queries of this table; in the last column what `CodeIndex.prepare` says of it, measured on rows of the index. By one
operator of two pieces ours is faiss' IVF and what a call from Python adds, 0.2 to 0.4 ms for any number of queries:
at 100 queries a call it took 1.2 to 1.6 times as long as faiss. They cluster with other seeds, by which recall at
equal probes differs by up to four points, and so then do the probes that they need.
"""

DISTANCE = """
## Code distances of all pairs

The floor reads all the codes once and writes one float64 per pair. `faiss.hammings` counts unequal bits, which are
unequal units for two pieces only; the matrix product multiplies the codes unpacked to one number per piece,
`torch.cdist` compares them unpacked to one number per unit. All give the same distances.
"""


def codes_section(results: list[dict[str, Any]]) -> str:
    """Codes over the forward pass."""
    rows = []
    for row in results:
        name = f"{row['title']}, batch {row['batch']}"
        if "failure" in row:
            rows.append([name, row["failure"], "", "", ""])
        else:
            seconds = (number(median(row[what]["cpu"])) for what in ("forward", "codes"))
            rows.append([name, *seconds, number(row["ratio"]), number(row["memory_mib"])])
    head = ["", "forward CPU s", "codes CPU s", "x forward", "extra MiB"]
    return f"\n## Codes, packing included, over the plain forward pass\n\n{table(head, rows)}"


def encode_section(results: list[dict[str, Any]]) -> str:
    """Throughput over that of the plain forward pass."""
    rows = []
    for row in results:
        title = f"{row['title']}, {row['inputs']:,} images"
        if "failure" in row:
            rows.append([title, row["failure"], "", "", ""])
            continue
        seconds = [number(median(row["timings"][what]["cpu"])) for what in ("forward", "encode")]
        rows.append([title, *seconds, *(number(row["throughput"][what]) for what in ("codes", "encode"))])
    head = ["", "forward CPU s", "encode CPU s", "codes, of the forward's throughput", "encode, of the forward's"]
    return f"{ENCODE}\n{table(head, rows)}"


def distance_section(results: list[dict[str, Any]]) -> str:
    """Seconds of ours, and every contestant over the floor."""
    names = list(dict.fromkeys(name for row in results for name in row.get("ratios", ())))
    rows = []
    for row in results:
        title = f"{row['title']}, {row['pairs'][0]:,} x {row['pairs'][1]:,} pairs"
        if "failure" in row:
            rows.append([title, row["failure"], *[""] * (len(names) + 1)])
            continue
        ratios = [number(row["ratios"].get(name)) for name in names]
        rows.append([title, number(median(row["timings"][distance.OURS]["cpu"])), *ratios, number(row["memory_mib"])])
    head = ["", f"{distance.OURS} CPU s", *(f"{name}, x floor" for name in names), "extra MiB"]
    return f"{DISTANCE}\n{table(head, rows)}"


def search_section(results: list[dict[str, Any]]) -> str:
    """Every contestant over faiss' exact search, and recalls."""
    text = SEARCH
    for row in results:
        if "failure" in row:
            text += f"\n### {row['title']}\n\n{row['failure']}\n"
            continue
        rows = []
        for name, timing in row["timings"].items():
            cells = (number(median(timing["cpu"])), number(median(timing["wall"])), number(row["over_faiss"][name]))
            recall = row["recall"].get(name, None if name == search.FLOOR else 1.0)
            rows.append([name, *cells, number(recall), row["measured"] if name == search.APPROXIMATE else ""])
        head = ["", "CPU s", "wall s", f"x {search.KNN_HAMMING}", "recall", "reported"]
        text += f"\n### {row['title']}\n\n{table(head, rows)}"
    return text
