import builtins
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from maxaffine._data import images, load, load_part
from maxaffine._data.folders import folder_files
from maxaffine.errors import BadInput, DataError


def paint(path, value, size=(6, 4)):
    """A picture of one color: gray for a number, RGB or RGBA for three or four."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = np.shape(value)
    Image.fromarray(np.full((size[1], size[0], *channels), value, dtype=np.uint8)).save(path)


def two_classes(folder, colors=((10, 20, 30), (40, 50, 60))):
    for name, value in zip("ab", colors, strict=True):
        for number in range(4):
            paint(folder / name / f"{number}.png", value)


def test_classes_and_files_are_in_natural_order(tmp_path):
    for label, name in enumerate(("Class1", "class2", "class10")):
        for rank, number in enumerate((1, 9, 10, 11)):
            paint(tmp_path / name / f"img{number}.png", 10 * label + rank)
    data = load(tmp_path, test_fraction=0.01)
    assert data.class_names == ("Class1", "class2", "class10")
    assert data.input_shape == (1, 4, 6)
    assert (len(data.train), len(data.test)) == (9, 3)
    for split in (data.train, data.test):
        values = (split.inputs[:, 0, 0, 0] * 255).round().int()
        assert torch.equal(values, values.sort().values)
        assert torch.equal(values // 10, split.labels.int())


@pytest.mark.parametrize("other", ["test", "val"])
def test_train_and_test_folders_are_the_parts(tmp_path, other):
    two_classes(tmp_path / "train")
    two_classes(tmp_path / other, colors=((1, 2, 3), (4, 5, 6)))
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (8, 8)
    assert (data.train.inputs[0, :, 0, 0] * 255).round().tolist() == [10, 20, 30]
    assert (data.test.inputs[-1, :, 0, 0] * 255).round().tolist() == [4, 5, 6]


def test_parts_with_other_classes_are_refused(tmp_path):
    two_classes(tmp_path / "train")
    two_classes(tmp_path / "test")
    (tmp_path / "test" / "b").rename(tmp_path / "test" / "c")
    with pytest.raises(DataError, match="its parts hold other classes than each other; name them alike"):
        load(tmp_path)


def test_one_color_image_makes_all_of_them_color(tmp_path):
    two_classes(tmp_path, colors=(7, (40, 50, 60)))
    data = load(tmp_path)
    assert data.input_shape == (3, 4, 6)
    assert (data.train.inputs[0, :, 0, 0] * 255).round().tolist() == [7, 7, 7]


def test_transparency_and_palettes_become_plain_color(tmp_path):
    two_classes(tmp_path, colors=((10, 20, 30, 99), (40, 50, 60)))
    palette = Image.new("P", (6, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 0])
    palette.save(tmp_path / "a" / "0.png", transparency=b"\x00\x80")
    data = load(tmp_path, test_fraction=0.01)
    colors = {tuple((row[:, 0, 0] * 255).round().int().tolist()) for row in (*data.train.inputs, *data.test.inputs)}
    assert colors == {(200, 100, 0), (10, 20, 30), (40, 50, 60)}


def test_sixteen_bit_gray_keeps_its_precision(tmp_path):
    two_classes(tmp_path, colors=(7, 9))
    levels = np.arange(24, dtype=np.uint16).reshape(4, 6) + 30000
    for number in range(4):
        Image.fromarray(levels).save(tmp_path / "a" / f"{number}.png")
    data = load(tmp_path)
    assert torch.equal((data.train.inputs[0, 0].double() * 65535).round().int(), torch.from_numpy(levels.astype("i4")))
    assert float(load(tmp_path, size=8).train.inputs.max()) <= 1


def test_size_resizes_and_without_it_sizes_must_agree(tmp_path):
    two_classes(tmp_path)
    paint(tmp_path / "b" / "2.png", (1, 2, 3), size=(5, 4))
    with pytest.raises(DataError, match="pass size=") as raised:
        load(tmp_path)
    assert str(tmp_path / "b" / "2.png") in str(raised.value)
    assert load(tmp_path, size=(3, 7)).input_shape == (3, 3, 7)
    assert load(tmp_path, size=5).input_shape == (3, 5, 5)
    for size in (0, -3, (4, 0)):
        with pytest.raises(BadInput, match="size: .* is neither a positive whole number nor two of them"):
            load(tmp_path, size=size)


def test_images_too_large_for_the_memory_are_told(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise MemoryError

    two_classes(tmp_path)
    monkeypatch.setattr(images, "pixels_of", refuse)
    with pytest.raises(DataError, match="cannot be read .MemoryError.; check its name, permissions and size"):
        load(tmp_path, size=60_000)


def test_names_that_are_no_text_become_such(tmp_path):
    """As in an archive that was packed where names are in Latin-1."""
    folder = tmp_path / os.fsdecode(b"caf\xe9s")
    for name in (b"caf\xe9", "thé".encode()):
        for number in range(2):
            paint(folder / os.fsdecode(name) / f"{number}.png", (1, 2, 3))
    data = load(folder)
    assert (data.name, data.class_names) == ("caf\\xe9s", ("caf\\xe9", "thé"))
    assert load_part(folder)[1] == data.class_names


def test_an_image_on_its_side_is_turned_as_its_tag_says(tmp_path):
    two_classes(tmp_path)
    for path in tmp_path.rglob("*.png"):
        image = Image.open(path)
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    assert load(tmp_path).input_shape == (3, 6, 4)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_image_is_named(tmp_path, content):
    two_classes(tmp_path)
    (tmp_path / "b" / "3.png").write_bytes(content)
    with pytest.raises(DataError, match="unreadable as an image") as raised:
        load(tmp_path)
    assert str(tmp_path / "b" / "3.png") in str(raised.value)


def test_a_truncated_image_is_named(tmp_path):
    two_classes(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path = tmp_path / "b" / "3.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:70])
    with pytest.raises(DataError, match="unreadable as an image") as raised:
        load(tmp_path)
    assert str(path) in str(raised.value)


def test_pixels_without_a_known_range_are_refused(tmp_path):
    two_classes(tmp_path)
    Image.fromarray(np.ones((4, 6), np.float32)).save(tmp_path / "a" / "0.tiff")
    with pytest.raises(DataError, match="of type F"):
        load(tmp_path)


def test_folders_that_are_not_images_by_class(tmp_path):
    with pytest.raises(DataError, match="is empty"):
        load(tmp_path)
    two_classes(tmp_path)
    (tmp_path / ".hidden").write_text("ignored")
    load(tmp_path)
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="c: is empty; put images or WAV files into it"):
        load(tmp_path)
    (tmp_path / "c" / "deeper").mkdir()
    with pytest.raises(DataError, match="folder inside a class folder"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="e.g. notes.txt"):
        load(tmp_path)


def test_images_without_class_folders_have_no_labels(tmp_path):
    two_classes(tmp_path)
    found = load(tmp_path / "a")
    assert found.class_names == ("unlabeled",) and found.set_aside
    paths = folder_files(tmp_path / "a", {"size": None}).paths
    assert len(found.train) + len(found.test) == len(paths) and {path.parent.name for path in paths} == {"a"}
    (tmp_path / "a" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="notes.txt: unreadable as an image"):
        load(tmp_path / "a")


def test_images_are_read_one_by_one_by_a_loader_of_torch(tmp_path):
    two_classes(tmp_path)
    files = folder_files(tmp_path, {"size": None})
    batches = list(DataLoader(files, batch_size=3))
    whole = files.take(slice(None))
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), whole.inputs)
    assert torch.equal(torch.cat([labels for _, labels in batches]), whole.labels)


def test_parts_of_one_color_each_are_both_color(tmp_path):
    two_classes(tmp_path / "train", colors=(7, 9))
    two_classes(tmp_path / "val")
    data = load(tmp_path)
    assert data.input_shape == (3, 4, 6)
    assert (data.train.inputs[0, :, 0, 0] * 255).round().tolist() == [7, 7, 7]


def test_without_pillow_the_error_says_what_to_install(tmp_path, monkeypatch):
    two_classes(tmp_path)
    real = builtins.__import__

    def without_pillow(name, *rest):
        if name == "PIL":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(DataError, match=r"pip install 'maxaffine\[data\]'"):
        load(tmp_path)


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    two_classes(tmp_path)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    with pytest.raises(DataError, match="pipe.png: is a pipe, a socket or a device, not a file; move it away"):
        load(tmp_path)
    with pytest.raises(DataError, match="is a pipe, a socket or a device, which is not read"):
        load(tmp_path / "a" / "pipe.png")


def test_of_several_pages_or_frames_the_first_is_taken_with_a_word(tmp_path):
    two_classes(tmp_path, colors=(10, 20))
    pages = [Image.new("L", (6, 4), value) for value in (10, 200)]
    pages[0].save(tmp_path / "a" / "0.tiff", save_all=True, append_images=pages[1:])
    with pytest.warns(UserWarning, match="one image holds several pages or frames, e.g. 0.tiff; the first is taken"):
        data = load(tmp_path)
    assert (data.train.inputs.max() * 255).round() == 20
