import json
import os
import sys
import zipfile

import pytest
import safetensors.torch
import torch
from torch import nn

from maxaffine._models import build, load_model
from maxaffine.errors import BadInput, ModelError

FACTORY = """
import dataclasses
from torch import nn
import neighbor

@dataclasses.dataclass
class Options:
    width: "int" = 4

def make(width=4):
    width = Options(width).width
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, neighbor.CLASSES))

def broken():
    return 3

def leaves():
    raise SystemExit("no accelerator")

network = nn.Linear(2, 2)
number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_factories.py").write_text(FACTORY)
    (tmp_path / "neighbor.py").write_text("CLASSES = 3\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("my_factories", "neighbor", "maxaffine_model_my_factories"):
        sys.modules.pop(name, None)


class Trap:
    """Unpickling this would create a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("source", ["my_factories:make", "my_factories.py:make", "absolute"])
def test_a_factory_is_found_from_the_current_folder_or_its_file(folder, source):
    before = list(sys.path)
    model = load_model(f"{folder}/my_factories.py:make" if source == "absolute" else source, width=5)
    assert model(torch.zeros(1, 2)).shape == (1, 3)
    assert not model.training
    assert sys.path == before


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_are_loaded_strictly(folder, suffix):
    trained = load_model("my_factories:make")
    path = folder / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(trained.state_dict(), path)
    else:
        torch.save(trained.state_dict(), path)
    loaded = load_model("my_factories:make", path)
    x = torch.randn(3, 2)
    assert torch.equal(loaded(x), trained(x))
    with pytest.raises(ModelError, match="does not fit the model"):
        load_model("my_factories:make", path, width=5)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("my_factories", "names no model; give package.module:factory"),
        (":make", "names no model"),
        ("absent_module:make", "cannot be imported .ModuleNotFoundError"),
        ("absent.py:make", "there is no file"),
        ("my_factories:mak", "did you mean 'make'"),
        ("my_factories:network(3)", "is a module already, which takes no arguments"),
        ("my_factories:make(width=open)", "its arguments are not all literals"),
        ("my_factories:make(*[3])", "its arguments are not all literals"),
        ("my_factories:make(**{'width': 3})", "its arguments are not all literals"),
        ("my_factories:make(wide=3)", r"calling it failed .TypeError.*check its arguments wide=3"),
        ("my_factories:number", "is a int, not a factory"),
        ("my_factories:broken", "returned a int, not an nn.Module"),
        ("torch.nn:Linear", "calling it failed .TypeError"),
        ("my_factories:leaves", "calling it failed .SystemExit: no accelerator"),
    ],
)
def test_what_is_no_factory_is_refused_with_the_reason(folder, source, message):
    with pytest.raises(ModelError, match=message):
        load_model(source)


@pytest.mark.parametrize("line", ["import no_such_package", "raise SystemExit(2)", "def f(:", "1 / 0"])
def test_a_module_that_fails_on_import_is_told_apart(folder, line):
    (folder / "my_factories.py").write_text(line)
    for source in ("my_factories:make", "my_factories.py:make"):
        with pytest.raises(ModelError, match="cannot be imported"):
            load_model(source)
    assert "maxaffine_model_my_factories" not in sys.modules


def test_a_pickled_module_is_refused_and_never_run(folder):
    trace = folder / "trace"
    model = nn.Linear(2, 2)
    vars(model)["extra"] = Trap(trace)
    torch.save(model, folder / "whole.pt")
    with pytest.raises(ModelError, match="refused because unpickling can run any code"):
        load_model(folder / "whole.pt")
    with pytest.raises(ModelError, match=r"unpickling can run any code.*save model.state_dict"):
        load_model("my_factories:make", folder / "whole.pt")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "state_dict": {}}, "its entry 'epoch' is not a tensor with a name, and none of its entries"),
        ({0: torch.zeros(3)}, "its entry 0 is not a tensor with a name"),
        (torch.zeros(3), "holds one Tensor, not tensors by name"),
        (b"garbage", "unpickling can run any code"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "pointer of Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"PK\x03\x04 and no end", "is cut off"),
        (None, "is not there"),
    ],
)
def test_what_is_no_state_dict_is_refused_with_the_reason(folder, content, message):
    path = folder / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ModelError, match=message) as raised:
        load_model("my_factories:make", path)
    assert str(path) in str(raised.value)


def test_damaged_safetensors_are_named(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(b"\x10" * 20)
    with pytest.raises(ModelError, match="unreadable as weights"):
        load_model("my_factories:make", path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.model."])
@pytest.mark.parametrize("place", [None, "state_dict", "model_state_dict", "model", "state_dict_ema"])
def test_the_weights_of_a_wrapper_and_of_a_trainer_are_found(folder, prefix, place):
    trained = load_model("my_factories:make")
    state = {prefix + name: value for name, value in trained.state_dict().items()}
    torch.save(state if place is None else {"epoch": 3, "lr": [0.1], place: state}, folder / "weights.pt")
    with pytest.warns(UserWarning) as said:
        loaded = load_model("my_factories:make", folder / "weights.pt")
    words = " ".join(str(word.message) for word in said)
    assert (place is None) or f"entry {place!r}" in words
    assert "which was dropped" in words
    x = torch.randn(3, 2)
    assert torch.equal(loaded(x), trained(x))


def test_of_several_sets_of_weights_the_trained_ones_are_taken(folder):
    trained, averaged = (load_model("my_factories:make").state_dict() for _ in range(2))
    torch.save({"model_ema": averaged, "model": trained, "step": 1}, folder / "weights.pt")
    with pytest.warns(UserWarning, match="entry 'model', not of 'model_ema'"):
        loaded = load_model("my_factories:make", folder / "weights.pt")
    assert torch.equal(loaded.state_dict()["0.weight"], trained["0.weight"])


def test_prefixes_stay_where_the_rest_does_not_fit(folder):
    state = {f"module.{name}": value for name, value in load_model("my_factories:make").state_dict().items()}
    del state["module.3.bias"]
    state["module.extra"] = torch.zeros(1)
    state["module.0.weight"] = torch.zeros(7, 2)
    torch.save(state, folder / "weights.pt")
    with pytest.raises(ModelError) as raised:
        load_model("my_factories:make", folder / "weights.pt")
    assert (
        "1 missing (3.bias); 1 unexpected (module.extra); 1 of another shape (0.weight: (7, 2) in the file, (4, 2) in "
        "the model)" in str(raised.value)
    )


def test_files_of_code_are_named_and_never_run(folder):
    model = nn.Linear(2, 2)
    torch.save(model, folder / "whole.pt")
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.trace(model, torch.zeros(1, 2)), folder / "script.pt")
    torch.save({"state_dict": model.state_dict(), "path": folder}, folder / "trainer.pt")
    for name, words in {
        "whole": "torch.nn.modules.linear.Linear",
        "script": "TorchScript",
        "trainer": "pathlib",
    }.items():
        with pytest.raises(ModelError, match=words):
            load_model("my_factories:make", folder / f"{name}.pt")


def test_arguments_are_written_after_the_factory(folder):
    for source in ("my_factories:make(5)", "my_factories:make(width=5)", f"{folder}/my_factories.py:make(width = 5)"):
        assert load_model(source).get_submodule("0").out_features == 5
    assert load_model("my_factories:make(width=5)", width=6).get_submodule("0").out_features == 6
    assert load_model("torch.nn:Unflatten(1, (2, 3))").unflattened_size == (2, 3)


def test_a_module_in_a_module_is_copied(folder):
    network = load_model("my_factories:network")
    mine = sys.modules["my_factories"].network
    own, theirs = network.get_parameter("weight"), mine.weight
    assert torch.equal(own, theirs) and own is not theirs
    assert mine.training and not network.training


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An exported network whose sizes and guards are expressions, and what it gives."""

    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 4)

        def forward(self, x):
            rows = torch.cat([x, x[:, ::2]], 1).reshape(x.shape[0], -1, 1)
            return self.linear(rows).relu().mean(1)

    model = Doubled().eval()
    dynamic = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(model, (torch.zeros(4, 12),), dynamic_shapes=dynamic)
    path = tmp_path_factory.mktemp("archive") / "net.pt2"
    torch.export.save(program, path)
    return path, model


def test_an_exported_archive_is_loaded(archive):
    path, model = archive
    x = torch.randn(3, 14)
    torch.testing.assert_close(load_model(path)(x), model(x))


def test_the_archive_of_a_residual_network_passes_the_check(tmp_path):
    network = build("resnet", (1, 8, 8), 4, seed=0, width=4, blocks=(1, 1)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 1, 8, 8),)), tmp_path / "residual.pt2")
    x = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(load_model(tmp_path / "residual.pt2")(x), network(x))


def rewrite(source, target, change):
    """Copy an archive, with `change(name, content)` in place of each member; None drops it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)


def in_graph(edit):
    def change(name, content):
        if not name.endswith("models/model.json"):
            return content
        tree = json.loads(content)
        edit(tree)
        return json.dumps(tree).encode()

    return change


def poison_sizes(tree):
    text = json.dumps(tree)
    assert "Symbol('s" in text
    tree.update(json.loads(text.replace("Symbol('s", "__import__('os').mkdir('trace') or Symbol('s", 1)))


def poison_name(tree):
    tree["graph_module"]["graph"]["nodes"][0]["name"] = "x=__import__('os').mkdir('trace')"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (poison_sizes, "expr_str .* would evaluate as Python"),
        (lambda tree: tree.update(guards_code=["__import__('os').mkdir('trace')"]), "guards_code"),
        (poison_name, "has the name"),
    ],
)
def test_an_archive_with_code_in_its_graph_is_refused_and_never_run(archive, tmp_path, monkeypatch, edit, message):
    monkeypatch.chdir(tmp_path)
    rewrite(archive[0], tmp_path / "bad.pt2", in_graph(edit))
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "bad.pt2")
    assert not (tmp_path / "trace").exists()


def test_an_archive_with_a_pickle_is_refused_and_never_run(archive, tmp_path):
    trace = tmp_path / "trace"
    torch.save(Trap(trace), tmp_path / "pickle.pt")
    pickled = (tmp_path / "pickle.pt").read_bytes()
    rewrite(archive[0], tmp_path / "bad.pt2", lambda name, old: pickled if name.endswith(".pt") else old)
    with pytest.raises(ModelError, match="holds pickled Python objects"):
        load_model(tmp_path / "bad.pt2")
    assert not trace.exists()
    # The refusal is needed: torch itself runs what is in there.
    with pytest.raises(Exception):  # noqa: B017 - whatever torch says afterwards
        torch.export.load(tmp_path / "bad.pt2")
    assert trace.exists()


def test_an_archive_that_unpickles_its_weights_is_refused(archive, tmp_path):
    def change(name, content):
        return content.replace(b'"use_pickle": false', b'"use_pickle": true')

    rewrite(archive[0], tmp_path / "bad.pt2", change)
    with pytest.raises(ModelError, match="asks for a tensor to be unpickled"):
        load_model(tmp_path / "bad.pt2")


@pytest.mark.parametrize("member", ["net/data/constants/custom_obj_0", "net/data/aotinductor/model/code.so"])
def test_an_archive_with_compiled_code_or_objects_is_refused(archive, tmp_path, member):
    rewrite(archive[0], tmp_path / "bad.pt2", lambda name, old: old)
    with zipfile.ZipFile(tmp_path / "bad.pt2", "a") as changed:
        changed.writestr(member, b"")
    with pytest.raises(ModelError, match="is code or is made by code"):
        load_model(tmp_path / "bad.pt2")


def test_an_archive_with_two_members_of_one_name_is_refused(archive, tmp_path):
    rewrite(archive[0], tmp_path / "bad.pt2", lambda name, old: old)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "bad.pt2", "a") as changed:
        changed.writestr(changed.namelist()[0], b"")
    with pytest.raises(ModelError, match="same name"):
        load_model(tmp_path / "bad.pt2")


@pytest.mark.parametrize(
    ("kind", "words"),
    [("absent", "is not there"), ("garbage", "unreadable as a torch.export archive"), ("truncated", "is cut off")],
)
def test_an_unreadable_archive_is_named(archive, tmp_path, kind, words):
    path = tmp_path / "bad.pt2"
    if kind != "absent":
        path.write_bytes(b"garbage" if kind == "garbage" else archive[0].read_bytes()[:500])
    with pytest.raises(ModelError, match=words) as raised:
        load_model(path)
    assert str(path) in str(raised.value)


def test_an_archive_takes_no_further_arguments(archive):
    with pytest.raises(BadInput, match="state_dict: does not apply"):
        load_model(archive[0], "weights.pt")
    with pytest.raises(BadInput, match="width: does not apply"):
        load_model(archive[0], width=3)
