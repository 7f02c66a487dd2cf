"""Fonts for names in any script: those installed that have the letters, else a line that says what to install."""

import contextlib
import logging
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import chain

from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

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
