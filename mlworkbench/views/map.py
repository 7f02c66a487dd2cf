"""Data map widget: a scatter plot of the images, which shows those that are clicked or encircled."""

import asyncio
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np

from ..analysis.datamap import MappedImages, project
from ..scoring.metrics import outcomes
from ..text import shortened
from .galleries import image, small
from .parts import Choice, Keys
from .style import GREY, MAP_MARKS, PALE

MOST = 12  # images shown at once
PAIRS = 20  # near duplicates shown at once
KEYS = [
    ("click", "on a point: its image"),
    ("drag", "around points: their images; with Shift: these too"),
    ("double click", "forget the line"),
    ("Tab", "to the next control"),
    ("letters", "in the box of colours: classes with these words; Enter takes one, ↑ ↓ go through all"),
    ("?", "open or close this list, as Esc closes it"),
]
WIDTH, HEIGHT = 640, 520
SECONDS = 0.004  # of t-SNE for an image, on one core
STYLE = f"""<style>
.mlw-map {{ color: var(--jp-ui-font-color1, #222); padding: 6px 2px 10px; container-type: inline-size; }}
.mlw-map .widget-box {{ overflow: visible; }}
.mlw-map > .mlw-controls {{ flex-flow: row wrap; gap: 4px 16px; align-items: center; }}
.mlw-map > .mlw-halves {{ display: grid; grid-template-columns: {WIDTH}px minmax(0, 400px); gap: 20px; }}
@container (max-width: {WIDTH + 260}px) {{ .mlw-map > .mlw-halves {{ grid-template-columns: {WIDTH}px; }} }}
.mlw-map .widget-html, .mlw-map .widget-html-content {{ line-height: 1.35; margin: 0; height: auto; }}
.mlw-map p, .mlw-map figure {{ margin: 0; overflow-wrap: anywhere; }}
.mlw-map .mlw-legend {{ display: flex; flex-wrap: wrap; gap: 2px 16px; padding: 4px 2px; }}
.mlw-map .mlw-legend svg {{ vertical-align: -1px; margin-right: 5px; overflow: visible; }}
.mlw-map .mlw-images {{ display: grid; gap: 10px; grid-template-columns: repeat(3, minmax(0, 1fr)); margin-top: 6px; }}
.mlw-map .mlw-pairs {{ max-height: {HEIGHT - 20}px; overflow: auto; }}
.mlw-map :is(.mlw-few, .mlw-pairs) {{ grid-template-columns: repeat(2, minmax(0, 1fr)); }}
.mlw-map figure :is(img, div) {{ width: 100%; aspect-ratio: 1; display: block; margin: 0 0 2px; }}
.mlw-map .selectionlayer {{ display: none; }}  /* a line, once drawn, would catch the next one */
.mlw-map figure div {{ display: grid; place-items: center; background: var(--jp-layout-color2, #eee); }}
.mlw-map figcaption {{ font-size: 12px; line-height: 16px; }}
</style>"""

# Plotly's marks of `MAP_MARKS` in the legend, around (6, 6).
GLYPHS = {
    "circle": "<circle cx='6' cy='6' r='5' fill='{0}'/>",
    "square": "<path d='M1 1h10v10h-10z' fill='{0}'/>",
    "diamond": "<path d='M6 0l6 6l-6 6l-6 -6z' fill='{0}'/>",
    "triangle-up": "<path d='M6 0l6 11h-12z' fill='{0}'/>",
    "triangle-down": "<path d='M6 12l6 -11h-12z' fill='{0}'/>",
    "x-thin-open": "<path d='M1 1l10 10M11 1l-10 10' stroke='{0}' stroke-width='2'/>",
    "ring": "<circle cx='6' cy='6' r='5.5' fill='none' stroke='{0}' stroke-width='1.5'/>",
}


class DataMap(w.VBox):
    """Images as points, coloured by split, errors or a class; near duplicates across splits are ringed when asked for.

    The plot is plotly's, made when a page shows the widget for the first time: a notebook that nobody watched saves
    nothing of plotly's five megabytes. No name goes into it, since plotly reads names as HTML and TeX.
    """

    def __init__(self, images: MappedImages, seed: int = 0):
        self.images, self._seed = images, seed
        self._at, self.method = {"PCA": project(images.features, "pca", seed)}, "PCA"
        self.shown = np.arange(0)
        self.figure: Any = None
        self._build()
        self._colour()
        self.observe(self._viewed, "_view_count")

    def __repr__(self) -> str:
        return "Map of the data: runs in a live Jupyter; the picture below stands in its place."

    # What a person does

    def show(self, rows: np.ndarray) -> None:
        """Show these images; of many, those with most wrong decisions."""
        found = outcomes(self.images.predictions.labels[rows], self.images.present[rows])
        wrong = (found["fp"] | found["fn"]).sum(1)
        self.shown = rows[np.argsort(-wrong, kind="stable")][:MOST]
        few = "mlw-few" if len(self.shown) <= 4 else ""
        figures = "".join(map(self._described, self.shown.tolist()))
        self._pictures.value = f"<div class='mlw-images {few} tex2jax_ignore mathjax_ignore'>{figures}</div>"
        self._say(
            f"{len(rows):,} selected; shown are the {MOST} with most wrong decisions."
            if len(rows) > MOST
            else f"{len(rows)} image{'' if len(rows) == 1 else 's'} shown; the numbers are probabilities."
        )
        if self.figure is not None:
            self.figure.data[3].update(dict(zip("xy", self._at[self.method][self.shown].T, strict=True)))

    def show_pairs(self, on: bool = True) -> None:
        """Ring and join near duplicates across splits, and show the most alike side by side; or ring none."""
        self.duplicates.value = on
        self._explain()
        if self.figure is not None:
            with self.figure.batch_update():
                self.figure.data[0].visible = self.figure.data[2].visible = on
        if not on:
            return
        scrolled = "tabindex='0' role='group' aria-label='Pairs'"  # so that keys scroll it
        figures = "".join(map(self._described, self._pairs[:PAIRS].ravel().tolist()))
        self._pictures.value = (
            f"<div class='mlw-images mlw-pairs tex2jax_ignore mathjax_ignore' {scrolled}>{figures}</div>"
        )
        most = f"shown are the {PAIRS} most alike" if len(self._pairs) > PAIRS else "the most alike first"
        untaught = " The network began with random weights: what is alike to it need not look alike."
        self._say(f"{self._count} across splits, {most}.{untaught if self.images.untaught else ''}")

    def arrange(self) -> None:
        """Arrange the points the other way; the first t-SNE takes a while, and the PCA stays until it is done."""
        wanted = "PCA" if self.method == "t-SNE" else "t-SNE"
        if wanted in self._at:
            self._arranged(wanted)
            return
        self.button.disabled = True
        self._say("t-SNE is at work; the PCA stays until it is done.")
        try:
            self._task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._compute))
            self._task.add_done_callback(lambda _: self._arranged(wanted))
        except RuntimeError:  # where no event loop runs
            self._compute()
            self._arranged(wanted)

    # What follows

    def _compute(self) -> None:
        self._failure = "it was interrupted"
        try:
            self._at["t-SNE"] = project(self.images.features, "tsne", self._seed)
        except Exception as error:  # whatever scikit-learn, or the memory, runs into: nobody would see it in a task
            self._failure = shortened(" ".join(f"{type(error).__name__}: {error}".split()), 200)

    def _arranged(self, method: str) -> None:
        self.button.disabled = False
        if method not in self._at:
            self._say(f"{method} failed, the PCA stays: {self._failure}")
            return
        self.method = method
        self.button.description = "Back to PCA" if method == "t-SNE" else "t-SNE"
        self._say(f"Arranged by {method}.")
        self._move()

    def _colour(self) -> None:
        """Mark the points by what they are, so that what is rarer or worse lies on top, and explain the marks."""
        kinds, names = self.images.kinds(self.by.value), list(MAP_MARKS)
        place = np.select([kinds == kind for kind in names], range(len(names)))
        self._order = np.argsort(place, kind="stable")
        looks = np.array(list(MAP_MARKS.values()))[place[self._order]]
        self._looks = {"color": looks[:, 0].tolist(), "symbol": looks[:, 2].tolist()}
        counts = np.bincount(place, minlength=len(names)).tolist()
        self._marks = [(*MAP_MARKS[kind], f"{kind} ({n:,})") for kind, n in zip(names, counts, strict=True) if n]
        self._explain()
        if self.figure is not None:
            at = self._at[self.method][self._order]
            with self.figure.batch_update():
                self.figure.data[1].update(x=at[:, 0], y=at[:, 1], marker=self._looks)

    def _explain(self) -> None:
        ringed = (GREY, "", "ring", f"near duplicate across splits ({len(np.unique(self._pairs)):,})")
        told = "".join(
            f"<span><svg width='12' height='12' aria-hidden='true'>{GLYPHS[glyph].format(colour)}</svg>{text}</span>"
            for colour, _, glyph, text in [*self._marks, *([ringed] if self.duplicates.value else [])]
        )
        if self.by.value == "errors":
            told += "<span>(the model has seen the labels of train)</span>"
        self._legend.value = f"<div class='mlw-legend'>{told}</div>"

    def _move(self) -> None:
        """Put every line, point and ring where it belongs."""
        if self.figure is None:
            return
        at = self._at[self.method]
        ends = np.full((len(self._pairs), 3, 2), np.nan, np.float32)  # the gap parts a line from the next
        ends[:, :2] = at[self._pairs]
        places = (ends.reshape(-1, 2), at[self._order], at[np.unique(self._pairs)], at[self.shown])
        with self.figure.batch_update():
            for trace, place in zip(self.figure.data, places, strict=True):
                trace.update(x=place[:, 0], y=place[:, 1])

    def _viewed(self, change: dict[str, Any]) -> None:
        """Make the plot, once there is a page to show it."""
        if self.figure is not None or not change["new"]:
            return
        from plotly.graph_objects import FigureWidget, Scatter  # takes a moment

        size, around = 7 if len(self._order) < 5000 else 5, {"color": GREY, "symbol": "circle-open", "opacity": 1}
        marks: list[dict] = [
            {"size": size, "opacity": 0.8, **self._looks},
            {"size": size + 5, "line": {"width": 2}, **around},  # near duplicates
            {"size": size + 10, "line": {"width": 3}, **around},  # what is shown
        ]
        lines = Scatter(mode="lines", line={"color": GREY, "width": 1.5}, hoverinfo="skip")
        dots, *rings = (
            Scatter(mode="markers", marker=mark, unselected={"marker": {"opacity": mark["opacity"]}}, hoverinfo=hover)
            for mark, hover in zip(marks, ("none", "skip", "skip"), strict=True)  # clicks go through rings to a point
        )
        axis = {"showticklabels": False, "ticks": "", "zeroline": False, "mirror": True, "linecolor": PALE}
        layout = {
            "template": "simple_white", "width": WIDTH, "height": HEIGHT, "margin": {"l": 4, "r": 4, "t": 28, "b": 4},
            "xaxis": axis, "yaxis": axis, "dragmode": "lasso", "hovermode": "closest", "showlegend": False,
            "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",  # any theme's
        }  # fmt: skip
        self.figure = FigureWidget([lines, dots, *rings], layout)
        # Without a button that would send the plot to plotly's cloud, nor one that leads there.
        self.figure._config = {"displaylogo": False, "showSendToCloud": False, "displayModeBar": True}
        self.figure.data[0].visible = self.figure.data[2].visible = self.duplicates.value
        self._move()
        self.figure.data[1].on_click(self._picked)
        self.figure.data[1].on_selection(self._picked)
        self._place.children = [self.figure]

    def _picked(self, _: Any, points: Any, __: Any) -> None:
        if points.point_inds:
            self.show(self._order[points.point_inds])

    def _described(self, row: int) -> str:
        """An image with its labels and the decisions in words."""
        said, present = self.images.predictions, self.images.present[row]
        y, p, path = said.labels[row], said.probabilities[row], str(said.paths[row])

        def named(chosen: np.ndarray) -> str:
            first = [c for c in np.argsort(-p, kind="stable").tolist() if chosen[c]]
            texts = [f"{shortened(said.class_names[c], 24)} {p[c]:.2f}" for c in first[:4]]
            return ", ".join(texts or ["none"]) + (f" and {len(first) - 4} more" if len(first) > 4 else "")

        mark = "✗\u00a0" if ((y >= 0) & ((y == 1) != present)).any() else ""
        lines = [f"{mark}{shortened(Path(path).name)} ({self.images.split[row]})"]
        lines += [f"labels: {named(y == 1)}", f"called: {named(present)}"]
        shown = image(small(path, self.images.root), path)
        return f"<figure>{shown}<figcaption>{'<br>'.join(map(escape, lines))}</figcaption></figure>"

    def _say(self, text: str) -> None:
        self._status.value = f"<p role='status' aria-live='polite' class='tex2jax_ignore'>{escape(text)}</p>"

    # Controls

    def _build(self) -> None:
        names = [(f"class: {shortened(name)}", c) for c, name in enumerate(self.images.predictions.class_names)]
        self.by = Choice("Colour by", [("split", "split"), ("errors", "errors"), *names])
        seconds = max(5, round(SECONDS * len(self.images.split), -1))
        self.button = w.Button(description=f"t-SNE (takes about {seconds:.0f} s)", layout=w.Layout(width="210px"))
        self._pairs = self.images.pairs
        self._count = f"{len(self._pairs):,} pair{'' if len(self._pairs) == 1 else 's'}"
        self.duplicates = w.Checkbox(
            description=f"Near duplicates across splits ({self._count})", indent=False, layout=w.Layout(width="auto"),
            disabled=not len(self._pairs),
        )  # fmt: skip
        self.by.observe(lambda _: self._colour(), "index")
        self.button.on_click(lambda _: self.arrange())
        self.duplicates.observe(lambda change: self.show_pairs(change["new"]), "value")
        self._legend, self._status, self._pictures = w.HTML(), w.HTML(), w.HTML()
        self._place = w.VBox([w.HTML("<p>The map is drawn where a live Jupyter shows it.</p>")])
        self._say("Click a point, or draw a line around some: their images are shown here.")
        super().__init__(
            [
                w.HTML(STYLE),
                w.Box([self.by, self.button, self.duplicates, Keys(rows=KEYS)]).add_class("mlw-controls"),
                self._legend,
                w.Box([self._place, w.VBox([self._status, self._pictures])]).add_class("mlw-halves"),
            ],
            _view_count=0,  # from now on pages say how many of them show it
        )
        self.add_class("mlw-map")
