from __future__ import annotations

from pathlib import Path

import torch
from torch.multiprocessing.spawn import spawn

from tests.learning import parallel


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    """DistributedDataParallel over two halves of a batch, with and without accumulation, against one process."""
    spawn(parallel.process, (str(tmp_path),), nprocs=parallel.PARTS)
    for on in ("classifier", "maps"):
        alone = parallel.model()
        parallel.train(alone, on, *parallel.batch())
        for accumulate in (1, 2):
            for rank in range(parallel.PARTS):
                found = torch.load(tmp_path / f"{on}-{accumulate}-{rank}.pt", weights_only=True)
                torch.testing.assert_close(found, dict(alone.state_dict()), msg=f"{on}, {accumulate}, {rank}")


def test_the_comparison_sees_a_penalty_of_another_weight() -> None:
    first, second = parallel.model(), parallel.model()
    parallel.train(first, "maps", *parallel.batch())
    parallel.train(second, "classifier", *parallel.batch())
    distances = [
        (a - b).detach().abs().max().item() for a, b in zip(first.parameters(), second.parameters(), strict=True)
    ]
    assert max(distances) > 1e-4
