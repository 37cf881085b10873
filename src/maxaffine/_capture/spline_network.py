"""SplineNetwork, the user's object: what `capture` gives, and what a user asks of it, as methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from maxaffine._network import ExactnessReport, Network, verify
from maxaffine._templates import Names, Templates, Unit, templates


class SplineNetwork(Network):
    """A network in its exact spline form; made by :func:`maxaffine.capture`.

    It holds copies of the parameters, so later training of the user's module does not change it. It can be copied,
    pickled and sent to other processes, and saved by ``torch.save(net, path)``; ``torch.load(path,
    weights_only=False)`` reads it back, on the device it was captured on. Like every pickle such a file may run any
    code, so load only your own: from others take the module's weights, and capture them.

    Example:
        >>> import torch, maxaffine as ma
        >>> model, x = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()).eval(), torch.rand(4, 2)
        >>> net = ma.capture(model, x)
        >>> net.verify(model, x).exact
        True
        >>> net.templates(x).slopes.shape
        torch.Size([4, 3, 2])
    """

    def templates(
        self,
        x: Any,
        classes: Unit | Sequence[Unit] | Tensor | np.ndarray | None = None,
        until: str | None = None,
        *,
        output: int | None = None,
        top: int | None = None,
        names: Names | None = None,
        progress: bool | None = None,
    ) -> Templates:
        """The templates that the network matches each input against: logit_c = <A[x]_c, x> + b[x]_c.

        The rows are walked over in blocks, so that 1000 classes of a photograph fit in memory. That the sum is what the
        network gives is checked for every row. Within the region of x the template is also the gradient of the logit.

        Args:
            x: The inputs, as at capture.
            classes: Numbers or names of the classes, or flat numbers of the units; all by default.
            until: Operator or module whose units are looked at; the network's output by default.
            output: Which output, for a network with several.
            top: Keep only the units that are among the ``top`` largest at some input.
            names: Names of the units, in order or by number.
            progress: Whether to show a bar; by default when it takes over two seconds.

        Returns:
            The templates, with inner products, offsets, norms, cosines and comparisons.

        Raises:
            BadInput: When there is no such layer or unit; lists what there is.
            ExactnessError: When <A_c, x> + b_c misses the network's own value by more than rounding can explain.

        Example:
            >>> import torch, maxaffine as ma
            >>> net = ma.capture(torch.nn.Linear(2, 3).eval(), torch.zeros(1, 2))
            >>> net.templates(torch.ones(4, 2)).slopes.shape
            torch.Size([4, 3, 2])

        Source: Balestriero and Baraniuk, "Mad Max: Affine Spline Insights into Deep Learning" (arXiv 1805.06576),
        sections 4 and 5: deep networks are template matching machines.
        """
        return templates(self, x, classes, until, output=output, top=top, names=names, progress=progress)

    def verify(
        self, model: nn.Module, x: Any, *, rtol: float | None = None, seed: int = 0, raises: bool = True
    ) -> ExactnessReport:
        """Check the network against the user's untouched module.

        Five residuals, each relative to the largest term: the output; A x + b with b pushed through the network on its
        own; the offset contributions' sum; A^T u against autograd on the module; and single samples against the batch.
        On a kink autograd may pick another piece than the lowest, so a Jacobian that disagrees is compared again just
        beside x; where the module cuts its gradients (detach, no_grad), its own differences decide. Of a network with
        held gates A is not the Jacobian, and a sixth residual takes its place: the slopes against autograd on the
        module with its gates detached, operator by operator as it runs, by tables that know nothing of capture; what
        they lack an operator for is said in ``unchecked``. Of a product of two values they take the carrier that
        `held` names. Where both hold one infinity, as masked
        scores do, they agree, and the rest is judged on what is finite. An activation that was left out by
        ``output="pre_activation"`` is applied first, for the module applies it.

        Args:
            model: The module it was captured from.
            x: Inputs, as at capture.
            rtol: Bound on the residuals; by default 32 eps (1 + number of operators) in the coarsest dtype on the way,
                at most 1/16.
            seed: Seed of the random direction u; the caller's random state is not touched.
            raises: Whether a failure raises; else look at ``report.exact``.

        Returns:
            The report.

        Raises:
            ExactnessError: When a residual exceeds the bound.
            BadInput: When the module does not return what the network returns, or an operator overflows.
        """
        return verify(self, model, x, rtol=rtol, seed=seed, raises=raises)
