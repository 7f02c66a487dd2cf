"""Style of figures and pages: colours, sizes, fonts, text, the bytes of a figure, the frame of the report's page."""

import base64
import contextlib
import hashlib
import io
import logging
import unicodedata
import warnings
from collections.abc import Iterator
from datetime import date
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib import font_manager, rc_context, rcParams
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from .. import __version__
from ..data.labels import SPLITS
from ..text import duration, shortened, shown

log = logging.getLogger("mlworkbench")
USUAL = "DejaVu Sans"  # matplotlib's own
NO_LETTERS = (USUAL, "Last Resort", ".LastResort", "LastResort")  # the latter draw a box for every letter
# What is common on Linux, macOS and Windows, the better-looking first; any other font with the letters serves too.
PREFERRED = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Source Han Sans SC", "PingFang SC",
    "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "Noto Sans Arabic", "Noto Naskh Arabic", "Geeza Pro", "Segoe UI",
    "Noto Sans Devanagari", "Kohinoor Devanagari", "Nirmala UI", "Noto Sans Thai", "Thonburi", "Leelawadee UI",
    "Noto Sans", "Noto Emoji", "Symbola", "Segoe UI Emoji", "Segoe UI Symbol", "Arial Unicode MS",
)  # fmt: skip
PACKAGES = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HANGUL"), ("fonts-noto-cjk", "Noto Sans CJK"))
EMOJI, OTHERS = ("fonts-symbola", "Noto Emoji"), ("fonts-noto-core", "Noto Sans")

# Okabe and Ito's colours, which colour-blind people tell apart.
BLUE, ORANGE, GREEN, PURPLE, PALE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#BDBDBD"
GREY = "#767676"  # of text and lines: 4.5 to 1 on white, 4.2 to 1 on the #111 of dark pages: one picture serves both
SHARES = LinearSegmentedColormap.from_list("shares", ["#B5D8EE", BLUE])  # neither end is lost on white or on black
LINES = (BLUE, ORANGE, GREEN, PURPLE, GREY)
SPLIT_COLOURS = dict(zip(SPLITS, (BLUE, ORANGE, GREEN), strict=True))
# What a point of the map may be, in the order of drawing: colour, and mark for matplotlib and for plotly.
MAP_MARKS = {
    "train": (BLUE, "o", "circle"),
    "val": (ORANGE, "s", "square"),
    "test": (GREEN, "D", "diamond"),
    "absent": (PALE, "o", "circle"),
    "present": (BLUE, "D", "diamond"),
    "right": (PALE, "o", "circle"),
    "unknown": (GREY, "x", "x-thin-open"),
    "false positive": (BLUE, "^", "triangle-up"),
    "false negative": (ORANGE, "v", "triangle-down"),
    "both": (PURPLE, "D", "diamond"),
}
STATIC = Path(__file__).with_name("static")  # pages and their looks
_STYLE: Any = {
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), GREY),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def use_style() -> None:
    """Style for every figure that a notebook draws by itself from now on: one that suits light and dark pages."""
    rcParams.update(_STYLE)


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG bytes, names in any script as far as a font for them is installed.

    Its ground is the page's: text and lines can be read on white and on black.
    """
    buffer = io.BytesIO()
    with rc_context(_STYLE), with_all_letters(figure), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # one line says so already
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def png_uri(figure: Figure) -> str:
    """The figure as a PNG that a page can hold in itself, sharp on fine screens."""
    return "data:image/png;base64," + base64.b64encode(png(figure, 144)).decode()


def plain(text: object, most: int = 40) -> str:
    """Text as matplotlib shows it letter by letter: a `$` starts no mathematics, and a long name is shortened."""
    return shortened(text, most).replace("$", r"\$")


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def ink(share: float) -> str:
    """The colour of text on the colour that `SHARES` gives a share."""
    return "white" if share > 0.85 else "black"


def _class_height(classes: int) -> float:
    return max(2.5, 0.8 + 0.28 * classes)


@cache
def environment() -> jinja2.Environment:
    """Templates of the report, which escape all that they are given."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(STATIC), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.filters |= {"shown": lambda value: shown(value, 3), "duration": duration}
    return found


def page(title: str, sections: list[tuple[str, list[dict[str, Any]]]]) -> str:
    """The report as HTML; its policy lets in its own style sheet, known by its digest, and pictures that it holds."""
    style = (STATIC / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = environment().get_template("report.html")
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    made = f"mlworkbench {__version__}, {date.today():%Y-%m-%d}"
    return template.render(title=title, sections=sections, style=Markup(style), policy=policy, made=made)


@contextlib.contextmanager
def with_all_letters(figure: Figure) -> Iterator[None]:
    """Have a figure drawn in fonts that have all letters of its texts, as far as they are installed."""
    ticks = chain.from_iterable((*ax.get_xticklabels(), *ax.get_yticklabels()) for ax in figure.axes)
    texts = [*figure.findobj(Text), *ticks]
    families = [USUAL, *_families(frozenset("".join(text.get_text() for text in texts)))]
    for text in texts:
        text.set_fontfamily(families)
    with rc_context({"font.family": families}):  # for what is only made while it is drawn
        yield


@cache
def _families(letters: frozenset[str]) -> tuple[str, ...]:
    """Families that together have the letters that the usual one does not; what none has is told, once."""
    marks = ("Cc", "Cf", "Zs", "Zl", "Zp")  # what shows nothing
    wanted = {c for c in letters if unicodedata.category(c) not in marks and not 0xFE00 <= ord(c) <= 0xFE0F}
    missing, chosen = wanted - _has(font_manager.findfont(USUAL), wanted), []
    for again in (False, True):
        if again and missing:  # what was installed since matplotlib last made its list
            known = {font.fname for font in font_manager.fontManager.ttflist}
            for file in set(font_manager.findSystemFonts()) - known:
                with contextlib.suppress(Exception):  # whatever a damaged font runs into
                    font_manager.fontManager.addfont(file)
        rank = {name: place for place, name in enumerate(PREFERRED)}
        fonts = [font for font in font_manager.fontManager.ttflist if not font.name.startswith(NO_LETTERS)]
        for font in sorted(fonts, key=lambda font: (rank.get(font.name, len(rank)), font.name, font.weight != 400)):
            if missing and (found := _has(font.fname, missing)):
                missing -= found
                chosen.append(font.name)
    if missing:
        _tell_missing("".join(sorted(missing)))
    return tuple(dict.fromkeys(chosen))


def _has(file: str, letters: set[str]) -> set[str]:
    """Those of the letters that a font can draw; matplotlib draws no fonts of bitmaps, such as coloured emoji."""
    with contextlib.suppress(Exception):  # whatever a font that it cannot open runs into
        font = FT2Font(file)
        font.set_size(10, 72)
        found = {c for c in letters if font.get_char_index(ord(c))}
        for c in found:
            font.load_char(ord(c))
        return found
    return set()


@cache
def _tell_missing(letters: str) -> None:
    names = {c: unicodedata.name(c, "").split(" ")[0] for c in letters}
    wanted = {
        PACKAGES.get(name, EMOJI if unicodedata.category(c) == "So" else OTHERS): None for c, name in names.items()
    }
    debian, elsewhere = (", ".join(parts) for parts in zip(*wanted, strict=True))
    shown = letters if len(letters) <= 20 else f"{letters[:20]}…"
    log.warning(
        "no installed font has %s: pictures show boxes; install %s (Debian, Ubuntu) or %s (fonts.google.com/noto)",
        shown, debian, elsewhere,
    )  # fmt: skip
