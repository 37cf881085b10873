"""What a file is that is not what it was taken for."""

import pickletools
import zipfile
from pathlib import Path

POINTER = b"version https://git-lfs.github.com/spec"
CODE = "unpickling can run any code, so it is refused"


def nature(path: Path) -> str:
    """Say what a file is, and what helps; empty where there is nothing to say that its reader does not know better."""
    try:
        if not path.exists():
            return "is not there; check the path"
        if path.is_dir():
            return "is a folder; give a file"
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        return f"cannot be read ({error.strerror}); check its permissions"
    if not head:
        return "is empty, as an interrupted download or copy leaves it; get it again"
    if head.startswith(POINTER):
        return "is a pointer of Git LFS, not the file itself; run git lfs pull where it was cloned"
    if head.lstrip()[:15].lower().startswith((b"<!doctype", b"<html")):
        return "is a web page, not the file itself; download it by its raw or download link"
    if head.startswith(b"PK"):
        return _archive(path)
    return ""


def _archive(path: Path) -> str:
    """Say what a zip archive of PyTorch's is; the pickle in it is scanned, never run."""
    if not zipfile.is_zipfile(path):
        return "is cut off: its end is missing, as an interrupted download or copy leaves it; get it again"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return (
                "is a TorchScript archive, which holds code; where the model's source is, save "
                "torch.jit.load(path).state_dict() with torch.save, and give the factory beside it"
            )
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if not pickles:
            return ""
        content = archive.read(pickles[0])
    made = [str(value) for code, value, _ in pickletools.genops(content) if code.name == "GLOBAL"]
    others = [name.replace(" ", ".") for name in made if not name.startswith(("torch", "collections", "_codecs"))]
    modules = [name.replace(" ", ".") for name in made if name.startswith("torch.nn.modules")]
    if modules or others:
        kind = modules[0] if modules else others[0]
        return (
            f"holds Python objects, among them {kind}, as torch.save(model) or a trainer writes them; {CODE}: where "
            "the model's source is, save model.state_dict() alone"
        )
    return ""
