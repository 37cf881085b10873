"""WAV files as signals: every format against the bytes by hand, folders of them, and everything that is refused."""

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from maxaffine._data import DataSet, FolderFiles, Split, load, load_part, read_input
from maxaffine._data.sounds import sound_of
from maxaffine.errors import BadInput, DataError

RATE = 16_000


def wav(samples, rate=RATE):
    """The bytes of a WAV file as SciPy writes it."""
    stream = io.BytesIO()
    wavfile.write(stream, rate, np.asarray(samples))
    return stream.getvalue()


def pcm(frames, bits, channels=1, rate=RATE):
    """The bytes of a PCM file, header and all, written by hand."""
    width = bits // 8 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * width, width, bits)
    body = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(frames)) + frames
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def tones(folder, length=64, rate=RATE, hz=(500, 1000)):
    """Two classes with five tones each, of 16 bits."""
    for label, f in zip("ab", hz, strict=True):
        for number in range(5):
            wave = 20_000 * np.sin(2 * np.pi * f * np.arange(length) / rate + number)
            write(folder / label / f"{number}.wav", wav(wave.astype(np.int16), rate))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_every_width_is_read_by_its_own_scale():
    whole = [-(2**23), -1, 0, 1, 2**22, 2**23 - 1]
    frames = b"".join(value.to_bytes(3, "little", signed=True) for value in whole)
    rate, found = sound_of(pcm(frames, 24), "x")
    assert rate == RATE and found.dtype == np.float32
    assert found.tolist() == [[value / 2**23 for value in whole]]
    assert sound_of(pcm(bytes([0, 128, 255]), 8), "x")[1].tolist() == [[-1, 0, 127 / 128]]
    assert sound_of(pcm(struct.pack("<3h", -(2**15), 0, 2**14), 16), "x")[1].tolist() == [[-1, 0, 0.5]]
    assert sound_of(pcm(struct.pack("<2i", -(2**31), 2**30), 32), "x")[1].tolist() == [[-1, 0.5]]
    for dtype in (np.float32, np.float64):
        assert sound_of(wav(np.array([-3.25, 0.5], dtype)), "x")[1].tolist() == [[-3.25, 0.5]]
    two = struct.pack("<4h", 2**14, 0, -(2**14), 2**13)
    assert sound_of(pcm(two, 16, channels=2), "x")[1].tolist() == [[0.5, -0.5], [0, 0.25]]


def test_chunks_beside_the_samples_are_passed_by():
    plain = pcm(struct.pack("<h", 2**14), 16)
    body = plain[8:] + b"cue " + struct.pack("<I", 4) + b"1234"
    assert sound_of(b"RIFF" + struct.pack("<I", len(body)) + body, "x")[1].tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "x: unreadable as a WAV file"),
        (b"no sound at all", "x: unreadable as a WAV file"),
        (wav(np.zeros(9, np.int16))[:30], "x: unreadable as a WAV file"),
        (wav(np.zeros(9, np.int16))[:50], "x: is cut short: its header promises more"),
        (wav(np.zeros(0, np.int16)), "x: holds no samples"),
        (wav(np.array([0, np.nan, np.inf], np.float32)), "x: 2 of its 3 samples are NaN or infinite"),
        (wav(np.array([1e300])), "x: 1 of its 1 samples are NaN or infinite"),
        (pcm(b"\0\0", 16).replace(b"\x10\0\0\0\1\0", b"\x10\0\0\0\7\0"), "x: unreadable .*MULAW"),
        (pcm(b"\0\0", 16, channels=0), "x: unreadable as a WAV file"),
    ],
)
def test_what_is_no_sound_is_refused_by_name(content, words):
    with pytest.raises(DataError, match=words):
        sound_of(content, "x")


def test_damaged_files_never_end_in_another_error():
    content, draw = wav(np.arange(20, dtype=np.int16)), np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(content[: draw.integers(1, len(content) + 1)])
        damaged[draw.integers(len(damaged))] = draw.integers(256)
        try:
            assert np.isfinite(sound_of(bytes(damaged), "x")[1]).all()
        except DataError as error:
            assert str(error).startswith("x: ")


def test_a_folder_by_class_is_a_data_set_with_a_rate(tmp_path):
    tones(tmp_path)
    data = load(tmp_path)
    assert data.rate == RATE and data.input_shape == (1, 64) and data.class_names == ("a", "b")
    assert (len(data.train), len(data.test), data.set_aside) == (8, 2, True)
    first = sound_of((tmp_path / "a" / "0.wav").read_bytes(), "x")[1]
    assert any(np.array_equal(first, row) for row in data.train.inputs.numpy())
    assert data.ordered("b,a").rate == RATE
    parts = tmp_path / "parts"
    tones(parts / "train")
    tones(parts / "test")
    found = load(parts)
    assert found.rate == RATE and (len(found.train), len(found.test), found.set_aside) == (10, 10, False)
    files, names = load_part(tmp_path / "a")
    assert isinstance(files, FolderFiles) and names == ("unlabeled",) and files[0][0].shape == (1, 64)
    assert len(set(files.marks(slice(None)).tolist())) == 5


def test_another_rate_names_both_files_and_rates(tmp_path):
    tones(tmp_path)
    write(tmp_path / "b" / "4.wav", wav(np.zeros(64, np.int16), 44_100))
    with pytest.raises(DataError, match=r"4\.wav: is sampled at 44100 Hz, not at 16000 Hz like .*a/0\.wav; resample"):
        load(tmp_path)
    parts = tmp_path / "parts"
    tones(parts / "train")
    tones(parts / "test", rate=8_000)
    with pytest.raises(DataError, match=r"test/a/0\.wav: is sampled at 8000 Hz, not at 16000 Hz"):
        load(parts)


def test_stereo_is_refused_unless_it_is_asked_for(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.wav", wav(np.full((9, 2), number, np.int16)))
    with pytest.raises(DataError, match=r'0\.wav: has 2 channels; mix them down to one, or pass channels="first"'):
        load(tmp_path)
    assert load(tmp_path, channels="first").input_shape == (2, 9)
    write(tmp_path / "3.wav", wav(np.zeros(9, np.int16)))
    with pytest.raises(DataError, match=r"3\.wav: has 1 channels, not 2 like .*0\.wav; give all files the same"):
        load(tmp_path, channels="first")
    with pytest.raises(BadInput, match='channels: WAV files are read as .C, T.; pass "first"'):
        load(tmp_path, channels="last")
    with pytest.raises(BadInput, match="size: does not apply to a folder of WAV files"):
        load(tmp_path, size=8)


def test_other_lengths_and_other_files_are_refused(tmp_path):
    tones(tmp_path)
    write(tmp_path / "b" / "4.wav", wav(np.zeros(63, np.int16)))
    with pytest.raises(DataError, match=r"4\.wav: has 63 samples, not 64 like .*0\.wav; cut or pad all"):
        load(tmp_path)
    write(tmp_path / "b" / "4.wav", wav(np.zeros(64, np.int16))[:-9])
    with pytest.raises(DataError, match=r"4\.wav: (is cut short|unreadable)"):
        load(tmp_path)
    (tmp_path / "b" / "4.wav").rename(tmp_path / "b" / "4.txt")
    with pytest.raises(DataError, match=r"4\.txt: unreadable"):
        load(tmp_path)
    parts = tmp_path / "parts"
    tones(parts / "train")
    for label in "ab":
        (parts / "test" / label).mkdir(parents=True)
        Image.new("L", (8, 8)).save(parts / "test" / label / "0.png")
    with pytest.raises(DataError, match="one of its parts holds images, and one WAV files"):
        load(parts)


def test_a_rate_belongs_to_signals(tmp_path):
    x = np.zeros((10, 2, 32), np.float32)
    np.savez(tmp_path / "x.npz", inputs=x, rate=250)
    assert load(tmp_path / "x.npz", channels="first").rate == 250
    for rate in ("fast", [1, 2]):
        np.savez(tmp_path / "x.npz", inputs=x, rate=rate)
        with pytest.raises(DataError, match="x.npz: rate is .*; store one number, in samples per second"):
            load(tmp_path / "x.npz", channels="first")
    for shape, rate in (((2, 1, 8, 8), 16.0), ((2, 1, 8), 0.0), ((2, 8), float("nan"))):
        split = Split(torch.zeros(shape), torch.zeros(2, dtype=torch.int64))
        with pytest.raises(DataError, match=f"x: rate {rate} is not a number of samples per second of signals"):
            DataSet("x", split, split, ("unlabeled",), rate=rate)


def test_one_upload(tmp_path):
    samples = (np.arange(8) * 1000).astype(np.int16)
    expected = torch.from_numpy(samples / np.float32(2**15))
    assert torch.equal(read_input(wav(samples), "x", (1, 8), RATE), expected[None])
    assert torch.equal(read_input(wav(samples), "x", (8,)), expected)
    two = read_input(wav(np.stack([samples, -samples], 1)), "x", (2, 8), RATE)
    assert torch.equal(two, torch.stack([expected, -expected]))
    for content, shape, words in (
        (wav(samples, 44_100), (1, 8), "x: is sampled at 44100 Hz, not at 16000 Hz like the data; resample it"),
        (wav(np.zeros((8, 2), np.int16)), (1, 8), "x: has 2 channels, but one input has 1; mix them down"),
        (wav(samples), (2, 8), "x: has 1 channels, but one input has 2; record all of them"),
        (wav(samples), (1, 9), "x: has 8 samples, but one input has 9; cut or pad it"),
        (wav(samples)[:50], (1, 8), "x: is cut short"),
        (wav(samples), (1, 8, 8), "x: is sound, but inputs of shape .1, 8, 8. are not"),
        (b"hello", (1, 8), "x: is neither WAV nor .npy"),
    ):
        with pytest.raises(DataError, match=words):
            read_input(content, "x", shape, RATE)
