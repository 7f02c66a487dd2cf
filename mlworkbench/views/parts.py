"""Parts that several widgets share: a choice among names that are searched by typing, and the list of keys."""

from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets

from .style import STATIC


def page(name: str, kind: str) -> str:
    """The script ("js") or the looks ("css") of a widget's page, behind what all of them share."""
    return "".join((STATIC / f"{file}.{kind}").read_text(encoding="utf-8") for file in ("parts", name) if file)


class Choice(anywidget.AnyWidget):
    """One of many names, found by typing some letters of it; arrow keys go through all.

    Parameters
    ----------
    title : what is chosen
    options : names, each with its value; the first is chosen
    """

    _esm = page("choice", "js")
    _css = page("", "css")
    title = traitlets.Unicode().tag(sync=True)
    names: traitlets.List[str] = traitlets.List().tag(sync=True)
    index = traitlets.Int().tag(sync=True)

    def __init__(self, title: str, options: Sequence[tuple[str, Any]]):
        self.values = [value for _, value in options]
        super().__init__(title=title, names=[name for name, _ in options])

    def __repr__(self) -> str:  # without an address, so that a notebook's outputs are the same each time
        return f"{self.title}, one of {len(self.names):,}"

    @property
    def value(self) -> Any:
        """The value of the name that is chosen; an error if it is set to one that is not there."""
        return self.values[self.index]

    @value.setter
    def value(self, value: Any) -> None:
        self.index = self.values.index(value)


class Rows(Choice):
    """The same with all names in sight, in a list that keeps its keys to itself.

    Parameters
    ----------
    shares : 0..1 for each name, the length of the bar behind it; none: no bars
    """

    _esm = page("rows", "js")
    shares: traitlets.List[float] = traitlets.List().tag(sync=True)

    def __init__(self, title: str, options: Sequence[tuple[str, Any]], shares: Sequence[float] = ()):
        super().__init__(title, options)
        self.shares = list(shares)


class Keys(anywidget.AnyWidget):
    """A button that lists the keys of the widget that it is part of, as `?` does; rows are (key, what it does)."""

    _esm = page("keys", "js")
    _css = page("", "css")
    rows: traitlets.List[tuple[str, str]] = traitlets.List().tag(sync=True)

    def __repr__(self) -> str:
        return "Keys"
