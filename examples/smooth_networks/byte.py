"""A byte-level GPT, trained on the text that ships with Python: why this next byte?"""

from __future__ import annotations

import math
from pathlib import Path
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import maxaffine as ma
from examples.real_networks.measuring import only
from examples.real_networks.pictures import INNER, OFFSET, Sheet, written_sum
from examples.smooth_networks.measuring import Row, kept, measure

CONTEXT, WIDTH, HEADS, BLOCKS = 64, 96, 4, 3
STEPS, BATCH, RATE = 1500, 32, 3e-3
SHOWN = ("accepts two argum", 'and raises "Value', "call with three arguments")


class Reader(nn.Module):
    """What follows the embedding table: from embedded bytes (N, T, WIDTH) to logits of each next byte (N, T, 256)."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(BLOCKS)
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 256)
        self.register_buffer("mask", torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).triu(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Read.

        Args:
            x: Embedded bytes (N, T, WIDTH), T at most CONTEXT.

        Returns:
            Logits of the byte after each of them, (N, T, 256).
        """
        length = x.shape[1]
        x = x + self.position[:length]
        for block in self.blocks:
            x = block(x, self.mask[:length, :length])
        return self.head(self.norm(x))


class Gpt(nn.Module):
    """A byte-level GPT: an embedding table, then `Reader`."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(256, WIDTH)
        self.reader = Reader()

    def forward(self, text: Tensor) -> Tensor:
        """Score the next bytes.

        Args:
            text: Bytes (N, T).

        Returns:
            Logits (N, T, 256).
        """
        return self.reader(self.table(text))


def text() -> tuple[Tensor, Tensor]:
    """The language reference that every Python carries for its ``help()``, as bytes; no paragraph comes twice.

    Returns:
        The bytes to learn from, and the last twentieth, which is held out.
    """
    paragraphs = dict.fromkeys("\n\n".join(topics[name] for name in sorted(topics)).split("\n\n"))
    whole = torch.tensor(list("\n\n".join(paragraphs).encode()))
    cut = len(whole) * 19 // 20
    return whole[:cut], whole[cut:]


def learn(model: Gpt, steps: int = STEPS, seed: int = 0) -> None:
    """Train a GPT on random pieces of the text.

    Args:
        model: The network.
        steps: Batches to learn from.
        seed: Which pieces are drawn.
    """
    known, _ = text()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    model.train()
    for _ in range(steps):
        starts = torch.randint(len(known) - CONTEXT, (BATCH, 1), generator=generator)
        pieces = known[starts + torch.arange(CONTEXT + 1)]
        loss = F.cross_entropy(model(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


class Next(nn.Module):
    """The logits of the byte that follows a whole context.

    Args:
        reader: What they are the last of.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, x: Tensor) -> Tensor:
        """Read.

        Args:
            x: Embedded bytes (N, T, WIDTH).

        Returns:
            Logits (N, 256).
        """
        return self.reader(x)[:, -1]


def study(images: Path, weights: Path) -> Row:
    """Train, measure and draw.

    Args:
        images: The folder of the picture.
        weights: The folder of the trained weights.

    Returns:
        The row of the page's table.
    """
    model = kept(Gpt, learn, weights / "byte.safetensors")
    _, rest = text()
    pieces = rest[: len(rest) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)
    with torch.no_grad():
        loss = float(F.cross_entropy(model(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten()))
    contexts = torch.stack([_context(rest, words) for words in SHOWN])
    draw(model, contexts, images / "smooth-byte.png")
    quality = f"{loss / math.log(2):.2f} bits per new byte"
    return measure("byte-level GPT", Next(model.reader), model.table(contexts).detach(), quality)


def _context(rest: Tensor, words: str) -> Tensor:
    """The CONTEXT bytes of the text that end in some words, at their first place."""
    end = bytes(rest.tolist()).index(words.encode(), CONTEXT) + len(words)
    return rest[end - CONTEXT : end]


def draw(model: Gpt, contexts: Tensor, file: Path) -> None:
    """Draw what each byte of some contexts adds to the best next byte against the second best.

    Args:
        model: The network.
        contexts: Bytes (N, CONTEXT).
        file: The picture.
    """
    x = model.table(contexts).detach()
    amap = ma.capture(Next(model.reader), x, smooth="frozen").affine_map(x)
    best = amap.value.topk(2).indices
    against = F.one_hot(best[:, 0], 256) - F.one_hot(best[:, 1], 256).to(x.dtype)
    shares = (only(amap.rmv(against)) * x).sum(2)
    offsets = (amap.offsets * against).sum(1)
    left, breadth, row = 46, 900, 150
    sheet = Sheet(left + breadth + 14, 28 + len(x) * row)
    sheet.text(left, 8, "what each byte adds, ⟨A$_i$, x$_i$⟩", color=INNER)
    sheet.text(left + 190, 8, "and b", color=OFFSET)
    for place, context in enumerate(contexts):
        top = 58 + place * row
        axes = sheet.axes(left, top, breadth, row - 62)
        axes.bar(range(CONTEXT), shares[place].tolist(), color=INNER, width=0.8)
        axes.bar([CONTEXT + 1], [float(offsets[place])], color=OFFSET, width=0.8)
        axes.axhline(0, color="gray", linewidth=0.6)
        axes.set_xlim(-1, CONTEXT + 2)
        letters = [*map(_shown, context.tolist()), "b"]
        axes.set_xticks([*range(CONTEXT), CONTEXT + 1], letters, family="monospace", va="baseline")
        axes.tick_params(axis="x", labelsize=9, length=0, pad=13)
        axes.tick_params(axis="y", labelsize=7)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        first, second = (f"“{_shown(byte)}”" for byte in best[place].tolist())
        chance = float(amap.value[place].softmax(0)[best[place, 0]])
        whole = written_sum(float(shares[place].sum()), float(offsets[place]))
        sheet.text(left, top - 6, f"next: {first} ({chance:.0%}) against {second}:  {whole}", va="bottom")
    sheet.save(file)


def _shown(byte: int) -> str:
    return {10: "↵", 32: "␣"}.get(byte, chr(byte) if 32 < byte < 127 else "·")
