"""Seeded randomness that leaves the caller's generators as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import BadInput


@contextmanager
def fixed_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of the CPU and of one device inside the block, and give back their states after it."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not -(2**63) <= seed < 2**64:
        raise BadInput(f"seed: {seed!r} is not a whole number below 2^64; the default is 0")
    # Not torch.manual_seed, which would also reseed every other accelerator, whose states are not kept here.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if device.type == "cpu":
            yield
            return
        module = torch.get_device_module(device)
        place = () if device.type == "mps" else (device,)
        kept = module.get_rng_state(*place)
        module.set_rng_state(torch.Generator(device).manual_seed(seed).get_state(), *place)
        try:
            yield
        finally:
            module.set_rng_state(kept, *place)
