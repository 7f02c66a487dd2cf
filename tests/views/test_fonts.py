"""Names in any script in a figure."""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from mlworkbench.views import company, plots, style

EVERYWHERE = "caт ελ ←"  # what matplotlib's own font has
CODE = """
import os, sys, hashlib, logging
logging.basicConfig(format="%(message)s", level="WARNING")
import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from mlworkbench.views.style import png
# As on a machine whose own fonts have no such letters.
own = [font for font in font_manager.fontManager.ttflist if font.fname.startswith(matplotlib.get_data_path())]
users = [folder for folder in font_manager.X11FontDirectories if folder.startswith(os.environ["HOME"])]
font_manager.fontManager.ttflist, font_manager.X11FontDirectories = own, users
figure = Figure()
figure.subplots().set_yticks([0, 1], sys.argv[1:])
print(hashlib.sha256(png(figure)).hexdigest())
"""


@pytest.fixture
def blank_fonts(monkeypatch):
    """As if no font but matplotlib's own were installed."""
    own = [font for font in font_manager.fontManager.ttflist if font.name.startswith(style.NO_LETTERS)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    style._families.cache_clear(), style._tell_missing.cache_clear()
    yield
    style._families.cache_clear(), style._tell_missing.cache_clear()


def drawn(*names):
    figure = Figure()
    figure.subplots().set_yticks(range(len(names)), names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support")  # how letters join, before 3.11
        return style.png(figure)


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("猫", "fonts-noto-cjk (Debian, Ubuntu) or Noto Sans CJK "),
        ("한국어", "fonts-noto-cjk "),
        ("🐶", "fonts-symbola (Debian, Ubuntu) or Noto Emoji "),
        ("हिन्दी", "fonts-noto-core (Debian, Ubuntu) or Noto Sans "),
    ],
)
def test_what_no_font_has_is_one_line_that_names_a_package(blank_fonts, caplog, name, packages):
    for _ in range(2):
        drawn(name, "dog", name)
    (line,) = caplog.messages
    assert set(name) & set(line) and packages in line and line.startswith("no installed font has ")


def test_what_the_usual_font_has_needs_nothing(blank_fonts, caplog):
    assert drawn(EVERYWHERE) and not caplog.messages


def test_every_figure_goes_this_way(blank_fonts, caplog):
    names, y = ["猫", "dog", "犬"], np.eye(3, dtype=np.int8)[[0, 1, 2, 0, 1, 2]]
    splits = np.array(["train", "val", "test"] * 2, object)
    for figure in (plots.class_counts(y, splits, names), company.cooccurrence(y, names), plots.label_sets(y, names)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            style.png(figure)
    assert len(caplog.messages) == 1 and "犬猫" in caplog.messages[0]


def test_a_font_that_is_installed_is_used_even_when_matplotlib_has_not_seen_it(tmp_path):
    """A picture differs once a font with the letters lies in the user's folder, although the list was made before."""
    found = [line.partition(":")[0] for line in listed(":lang=zh")]
    if not found:
        pytest.skip("no font with Chinese letters is installed (fonts-noto-cjk)")
    seen = []
    for installed in (False, True):
        place = tmp_path / "home/.local/share/fonts"
        place.mkdir(parents=True, exist_ok=True)
        if installed:
            shutil.copy(found[0], place)
        environment = {"HOME": str(tmp_path / "home"), "MPLCONFIGDIR": str(tmp_path / "list"), "PATH": "/nothing",
                       "PYTHONPATH": str(Path(style.__file__).parents[2])}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", CODE, "猫", "犬"], env=environment, capture_output=True, text=True, check=True
        )
        seen.append((done.stdout, "no installed font" in done.stderr))
    assert seen[0][0] != seen[1][0] and not seen[1][1]


def listed(pattern):
    command = shutil.which("fc-list")
    return (
        []
        if command is None
        else subprocess.run([command, pattern], capture_output=True, text=True).stdout.splitlines()
    )


def test_a_damaged_font_is_passed_over(tmp_path):
    (tmp_path / "bad.ttf").write_bytes(b"no font")
    assert style._has(str(tmp_path / "bad.ttf"), {"a"}) == set()
    assert style._has(font_manager.findfont(style.USUAL), {"a", "猫"}) == {"a"}
