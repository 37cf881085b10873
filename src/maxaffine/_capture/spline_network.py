"""SplineNetwork, the user's object: what `capture` gives, and what a user asks of it, as methods."""

from maxaffine._network import Network, verify
from maxaffine._templates import templates, through_time


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

    # Methods that need more than the network itself are written where that is known, in the rooms on the way here.
    templates = templates
    through_time = through_time
    verify = verify
