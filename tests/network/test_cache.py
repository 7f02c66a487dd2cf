import os

import numpy as np
import platformdirs
import pytest

from mlworkbench.network.cache import decoded_images


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return platformdirs.user_cache_path("mlworkbench") / "decoded"


def decoder(seen=None):
    def decode(row):
        if seen is not None:
            seen.append(row)
        return np.random.default_rng(row).integers(0, 256, (3, 8, 8), np.uint8)

    return decode


def open_cache(name="a", size=8, budget=1e6, seen=None, rows=range(5), decode=None):
    return decoded_images([f"{name}{i}" for i in range(5)], size, decode or decoder(seen), budget, rows)


def test_each_image_is_decoded_once_whoever_asks():
    first, second = [], []
    pixels = open_cache(seen=first)
    assert sorted(first) == list(range(5)) and all(np.array_equal(pixels[i], decoder()(i)) for i in range(5))
    assert np.array_equal(open_cache(seen=second), pixels) and second == []


def test_other_content_or_size_is_another_file(own_cache):
    open_cache()
    open_cache("b")
    open_cache(size=4, decode=lambda row: np.zeros((3, 4, 4), np.uint8))
    assert len(list(own_cache.iterdir())) == 3


def test_processes_fill_what_is_theirs_and_a_killed_one_loses_nothing():
    def killed(row):
        if row == 3:
            raise KeyboardInterrupt
        return decoder()(row)

    open_cache(rows=[0, 1])
    with pytest.raises(KeyboardInterrupt):
        open_cache(decode=killed, rows=[2, 3, 4])
    seen = []
    pixels = open_cache(seen=seen)
    assert 3 in seen and not {0, 1} & set(seen)
    assert all(np.array_equal(pixels[i], decoder()(i)) for i in range(5))


def test_a_damaged_row_or_a_cut_file_is_decoded_again(own_cache):
    open_cache()
    (file,) = own_cache.iterdir()
    data = bytearray(file.read_bytes())
    data[2 * 192 + 7] ^= 1
    file.write_bytes(data)
    seen = []
    assert np.array_equal(open_cache(seen=seen)[2], decoder()(2)) and seen == [2]
    file.write_bytes(data[:100])
    assert len(open_cache(seen=seen)) == 5 and sorted(seen) == [0, 1, 2, 2, 3, 4]


def test_the_budget_holds_and_the_longest_unused_goes_first(own_cache, caplog):
    size = 5 * (192 + 4)
    for name in "abc":
        open_cache(name, budget=3 * size)
        for file in own_cache.iterdir():
            os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 100))
    seen = []
    open_cache("a", budget=3 * size, seen=seen)  # used again: b is now the oldest
    open_cache("d", budget=3 * size)
    open_cache("a", budget=3 * size, seen=seen)
    assert seen == [] and len(list(own_cache.iterdir())) == 3
    assert open_cache("b", budget=3 * size, seen=seen) is not None and sorted(seen) == list(range(5))
    assert open_cache("e", budget=size - 1) is None and "more than cache_gb" in caplog.text


def test_a_mapped_file_outlives_its_removal():
    pixels = open_cache("a", budget=5 * 196)
    copy = pixels.copy()
    open_cache("b", budget=5 * 196)
    assert np.array_equal(pixels, copy)


def test_a_folder_that_cannot_be_written_is_said_and_done_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert open_cache() is None and "are not kept, each epoch decodes them again" in caplog.text


def test_a_full_disk_is_told_before_anything_is_decoded(own_cache, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    assert open_cache(decode=lambda row: 1 / 0) is None and "No space left" in caplog.text
    assert list(own_cache.iterdir()) == []
