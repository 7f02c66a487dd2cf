import io
import os
import subprocess
import sys

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from mlworkbench.data import images
from mlworkbench.data.images import (
    FORMATS,
    SUFFIXES,
    ImageFault,
    ImageInfo,
    check_images,
    digest,
    is_image,
    kind_of,
    load_image,
    load_named,
)


def reason(name, root, **options):
    with pytest.raises(ImageFault) as caught:
        load_image(name, root, **options)
    return str(caught.value)


def test_rgb_as_pillow_reads_it(picture, tmp_path):
    name = picture("a.png")
    assert np.array_equal(load_image(name, tmp_path), np.asarray(Image.open(tmp_path / name)))


def coarse(size, seed=0):
    """A picture that JPEG keeps: random colours, smoothly joined."""
    small = np.random.default_rng(seed).integers(0, 256, (size[1] // 16 + 2, size[0] // 16 + 2, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


JPEGS = {
    "usual": {},
    "whole colour": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1, "subsampling": 1},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "two pictures": {"format": "MPO", "save_all": True, "append_images": [coarse((640, 512))]},
}


def jpeg(kind, size=(333, 257)):
    options, buffer = {"format": "JPEG"} | JPEGS[kind], io.BytesIO()
    coarse(size).convert(options.pop("mode", "RGB")).save(buffer, **options)
    return buffer.getvalue()


def test_a_jpeg_is_decoded_at_a_reduced_scale_but_never_below_twice_the_side(picture, tmp_path):
    picture("large.jpg", size=(1600, 1200))
    assert load_image("large.jpg", tmp_path).shape == (1200, 1600, 3)
    assert load_image("large.jpg", tmp_path, side=150).shape == (300, 400, 3)
    assert load_image("large.jpg", tmp_path, side=151).shape == (600, 800, 3)
    assert load_image("large.jpg", tmp_path, side=301).shape == (1200, 1600, 3)


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_have_the_pixels_that_pillow_gives_them(tmp_path, kind):
    for size in ((333, 257), (9, 300), (7, 5)):
        (tmp_path / "a.jpg").write_bytes(jpeg(kind, size))
        for side in (None, 1, 20, 60):
            with Image.open(tmp_path / "a.jpg") as image:
                if side is not None:
                    image.draft("RGB", (2 * side, 2 * side))
                expected = np.asarray(image.convert("RGB"))
            np.testing.assert_array_equal(load_image("a.jpg", tmp_path, side), expected)


@pytest.mark.parametrize("kind", sorted(JPEGS.keys() - {"CMYK"}))
def test_a_whole_jpeg_never_needs_pillows_decoder(tmp_path, monkeypatch, kind):
    (tmp_path / "a.jpg").write_bytes(jpeg(kind))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: 1 / 0)
    assert load_image("a.jpg", tmp_path, 60).shape == (129, 167, 3)


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"turned.{suffix}"
    coarse((200, 120)).save(file, exif=exif)
    for side in (None, 20):
        with Image.open(file) as image:
            if side is not None:
                image.draft("RGB", (2 * side, 2 * side))
            expected = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(load_image(file.name, tmp_path, side), expected)
    (info,) = check_images([file.name], tmp_path)
    assert (info.width, info.height) == ((120, 200) if 5 <= orientation <= 8 else (200, 120))


@pytest.mark.parametrize("kind", JPEGS)
def test_the_check_finds_every_damage_that_decoding_the_whole_would_find(tmp_path, kind):
    whole, names, expected = jpeg(kind, (1100, 1024)), [], []  # checked at an eighth
    start = whole.index(b"\xff\xda")  # before it, a cut leaves only a header
    cuts = [*range(0, start, 99), *range(start, len(whole), len(whole) // 40), *range(-20, 0)]
    damaged = [whole[:cut] for cut in cuts]
    for place in np.random.default_rng(0).integers(start, len(whole), 15):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        damaged.append(whole[:place] + whole[place + 50 :])
    for number, data in enumerate([whole, *damaged]):
        names.append(f"{number}.jpg")
        (tmp_path / names[-1]).write_bytes(data)
        try:
            with Image.open(tmp_path / names[-1]) as image:
                image.load()
            expected.append(ImageInfo)
        except Exception:
            expected.append(ImageFault)
    found = check_images(names, tmp_path)
    assert [type(info) for info in found] == expected
    assert expected[0] is ImageInfo and expected.count(ImageFault) > len(cuts) // 2


def test_what_a_check_remembers_of_a_photograph_is_what_the_whole_looks_like(tmp_path):
    photograph = coarse((1600, 1200))
    photograph.save(tmp_path / "a.jpg", quality=90)
    (info,) = check_images(["a.jpg"], tmp_path)
    assert (info.width, info.height) == (1600, 1200)
    grey = photograph.convert("L")
    bits = np.packbits(imagehash.phash(grey).hash.flatten())
    assert np.bitwise_count(bits ^ np.frombuffer(info.phash, np.uint8)).sum() <= 2
    tiny = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS).reduce(2)).flatten()
    assert np.abs(tiny.astype(int) - np.frombuffer(info.tiny, np.uint8)).max() <= 2


def test_an_image_replaced_while_it_is_checked_is_known_by_what_was_decoded(picture, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    picture("a.png")
    old, first = (tmp_path / "a.png").read_bytes(), images._digest
    (expected,) = check_images([picture("b.png", size=(31, 17), seed=1)], tmp_path)

    def replace(data):
        (tmp_path / "a.png").write_bytes((tmp_path / "b.png").read_bytes())
        return first(data)

    monkeypatch.setattr(images, "_digest", replace)
    assert check_images(["a.png"], tmp_path) == [expected]
    monkeypatch.setattr(images, "_digest", first)
    (tmp_path / "a.png").write_bytes(old)
    assert check_images(["a.png"], tmp_path)[0].width == 40


def test_bytes_that_were_not_checked_are_told_before_they_are_decoded(picture, tmp_path):
    checked = digest(picture("a.png"), tmp_path)
    assert np.array_equal(load_named("a.png", tmp_path, 8, checked), load_image("a.png", tmp_path))
    picture("a.png", seed=1)
    with pytest.raises(ImageFault) as caught:
        load_named("a.png", tmp_path, 8, checked)
    told = "image 'a.png': not the bytes that were checked; has it changed since it was checked?"
    assert str(caught.value) == told


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "LA", "I;16", "F"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    ramp = np.tile(np.linspace(0, 255, 32, dtype=np.uint8), (16, 1))
    if mode in ("I;16", "F"):
        image = Image.fromarray((ramp.astype(np.uint16) * 257) if mode == "I;16" else ramp.astype(np.float32))
    else:
        image = Image.fromarray(ramp).convert("RGB").convert(mode)
    image.save(tmp_path / "ramp.tiff")
    pixels = load_image("ramp.tiff", tmp_path)
    assert pixels.shape == (16, 32, 3) and pixels.dtype == np.uint8
    assert pixels[:, :4].mean() < 30 and pixels[:, -4:].mean() > 220


def test_transparent_becomes_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (load_image("clear.png", tmp_path) == 255).all()


def test_reasons(picture, tmp_path):
    whole = (tmp_path / picture("a.jpg")).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.jpg").symlink_to(tmp_path / "a.jpg")
    assert reason("absent.jpg", tmp_path) == "missing"
    assert "truncated" in reason("cut.jpg", tmp_path)
    assert reason("text.jpg", tmp_path) == "not an image that Pillow can read"
    assert reason("empty.jpg", tmp_path) == "not an image that Pillow can read: an empty file"
    assert reason("folder.jpg", tmp_path) == "not a regular file"
    assert reason("pipe.jpg", tmp_path) == "not a regular file"
    assert "unreadable" in reason("loop.jpg", tmp_path)
    assert "unreadable" in reason("a\0b.jpg", tmp_path)
    assert "unreadable" in reason("x" * 5000, tmp_path)
    assert "URL" in reason("https://example.org/a.jpg", tmp_path)
    for outside in ("link.jpg", "../a.jpg", str(tmp_path / "a.jpg")):
        assert "outside" in reason(outside, root)
    assert load_image("a.jpg", tmp_path).shape == (30, 40, 3)  # the very file is fine from its own root


def test_too_large_by_its_header_alone(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")  # a few kilobytes, 400 megapixels
    assert "far more pixels by its header" in reason("bomb.png", tmp_path)
    Image.new("1", (11_000, 10_000)).save(tmp_path / "large.png")
    assert "11000x10000 pixels, over the limit of 100,000,000" in reason("large.png", tmp_path)
    assert "40x40 pixels" in reason(_small(tmp_path), tmp_path, max_pixels=100)


def _small(folder):
    Image.new("RGB", (40, 40)).save(folder / "small.png")
    return "small.png"


def test_check_keeps_the_order_and_tells_equal_files(picture, tmp_path):
    picture("a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    picture("c.jpg", size=(31, 17), seed=1)
    seen = []
    a, missing, b, c = check_images(["a.jpg", "no.jpg", "b.jpg", "c.jpg"], tmp_path, progress=seen.append)
    assert a.digest == b.digest != c.digest and (c.width, c.height) == (31, 17)
    assert isinstance(missing, ImageFault) and len(seen) == 4


def test_ultralytics_own_way_of_opening_images_is_not_taken(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    code = (
        "import ultralytics.utils.patches, pathlib, sys\n"
        "from mlworkbench.data.images import check_images\n"
        "print(check_images(['text.jpg'], pathlib.Path(sys.argv[1]))[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert (
        done.stdout.splitlines()[-1] == "not an image that Pillow can read" and "heif" not in done.stdout + done.stderr
    )


def test_no_format_that_starts_another_program(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    assert reason("a.eps", tmp_path) == "not an image that Pillow can read: PostScript; save it as PNG"


def test_a_second_check_decodes_nothing_and_finds_the_same(picture, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = [picture(f"{i}.jpg", seed=i) for i in range(5)] + ["missing.jpg"]
    first = check_images(names, tmp_path)
    monkeypatch.setattr(images, "_decoded", lambda *_: 1 / 0)
    second = check_images(names, tmp_path)
    assert first[:5] == second[:5] and str(second[5]) == "missing"


def test_a_changed_file_or_a_lower_limit_is_checked_anew(picture, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    picture("a.jpg")
    check_images(["a.jpg"], tmp_path)
    assert "over the limit" in str(check_images(["a.jpg"], tmp_path, max_pixels=100)[0])
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    assert isinstance(check_images(["a.jpg"], tmp_path)[0], ImageFault)


def test_a_cache_that_cannot_be_used_is_done_without_and_said(picture, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert check_images([picture("a.jpg")], tmp_path)[0].width == 40
    assert "what was checked is not remembered" in caplog.text


def test_suffixes_are_those_of_the_formats():
    registered = Image.registered_extensions()
    usual = {suffix for suffix, its in registered.items() if its in (*FORMATS, "MPO")}  # MPO is read as the JPEG it is
    assert set(SUFFIXES) == usual and len(SUFFIXES) == len(usual)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "film"),
        (b"\0\0\0\x18ftypcrx ", "camera"),
        (b"\0\x05\x16\x07\0\x02\0\0", "Mac"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"<svg xmlns='x'>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04", "archive"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"", "empty"),
    ],
)
def test_what_is_no_image_is_told_by_its_first_bytes(tmp_path, start, what):
    (tmp_path / "a.jpg").write_bytes(start)
    told = reason("a.jpg", tmp_path)
    assert told.startswith("not an image that Pillow can read: ") and what in told
    assert kind_of(tmp_path / "a.jpg") == told.partition(": ")[2] and not is_image(tmp_path / "a.jpg")
