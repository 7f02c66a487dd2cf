"""Each lesson as it is committed, and with every exercise answered wrongly and rightly; whatever lessons there are."""

import re
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise

import nbformat
import numpy as np
import pytest
from IPython.display import display
from matplotlib.figure import Figure

from mlworkbench import lessons
from mlworkbench.notebooks import LESSONS, ordered

FILES = ordered([LESSONS])
each_lesson = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
MOST_LINES = 25


def cells_of(file):
    return nbformat.read(file, as_version=4).cells


def code_of(file):
    return [cell for cell in cells_of(file) if cell.cell_type == "code"]


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", ())


def exercises_of(file):
    """Pairs of an exercise's cell and the one after it."""
    return [(cell, after) for cell, after in pairwise(cells_of(file)) if tagged(cell, "exercise")]


def solution_in(cell):
    """The source folded away in a cell; None where none is."""
    found = re.fullmatch(
        r"<details>\n<summary>Solution</summary>\n\n```python\n(.*)\n```\n\n</details>", cell.source, re.S
    )
    return found and found[1]


def answered(cell, source):
    """An exercise's cell with this source in place of its answer."""
    return f"{source}\n{cell.source.splitlines()[-1]}"


@each_lesson
def test_a_lesson_is_made_as_all_are(file):
    cells = cells_of(file)
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith(f"# Lesson {file.stem[1]} · ")
    assert "**Needs**" in cells[0].source and "**Writes**" in cells[0].source
    assert "## What to take away" in "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    (parameters,) = (cell for cell in code_of(file) if tagged(cell, "parameters"))
    assert re.search(r"^seed: int = 0  # ", parameters.source, re.M)
    assert all(len(cell.source.splitlines()) <= MOST_LINES for cell in code_of(file))
    following = rf"`L{int(file.stem[1]) + 1}_\w+\.ipynb`"
    assert file == FILES[-1] or re.search(following, cells[-1].source), "the last cell leads to the next lesson"


@each_lesson
def test_each_exercise_has_a_judge_a_wrong_answer_and_a_folded_solution(file):
    numbers = [cell.metadata["exercise"] for cell, _ in exercises_of(file)]
    assert len(numbers) >= 2 and numbers == [f"{file.stem[1]}.{place}" for place in range(1, len(numbers) + 1)]
    checks = [cell for cell in cells_of(file) if "lessons.check(" in cell.source and cell.cell_type == "code"]
    assert len(checks) == len(numbers), "a check in a cell that is no exercise"
    for cell, after in exercises_of(file):
        number, *_, last = cell.metadata["exercise"], *cell.source.splitlines()
        assert last.startswith(f'lessons.check("{number}", ') and "= ..." in cell.source
        assert number in lessons._EXERCISES and lessons.hint(number).text
        assert after.cell_type == "markdown" and solution_in(after), "the solution is to follow, folded away"
        for source in (cell.metadata["wrong"], solution_in(after)):
            compile(source, number, "exec")


@pytest.mark.notebook
@each_lesson
def test_exercises_tell_no_answer_a_wrong_one_and_the_solution_apart(file, monkeypatch, tmp_path):
    """All three at each exercise, then on as committed: what takes long is done once, and no cell needs an answer."""
    verdicts = []
    check = lessons.check
    monkeypatch.setattr(lessons, "check", lambda *given: verdicts.append(check(*given)) or verdicts[-1])
    monkeypatch.chdir(tmp_path)
    names, expected = {"__name__": "__main__", "display": display}, []
    with redirect_stdout(StringIO()):
        for cell, after in zip(cells_of(file), [*cells_of(file)[1:], None], strict=True):
            if cell.cell_type != "code":
                continue
            if tagged(cell, "exercise"):
                number = cell.metadata["exercise"]
                for word, source in (("Right", solution_in(after)), ("Not yet", cell.metadata["wrong"])):
                    before = dict(names)
                    exec(compile(answered(cell, source), f"{file.name} {number}", "exec"), names)
                    names.clear()
                    names.update(before)
                    expected.append((number, word))
                expected.append((number, "Not attempted"))
            exec(compile(cell.source, f"{file.name} {cell.id}", "exec"), names)
    told = [(number, verdict.word) for (number, _), verdict in zip(expected, verdicts, strict=True)]
    assert told == expected, [str(verdict) for verdict in verdicts]
    assert all(len(verdict.text) > 20 for verdict in verdicts)
    assert not list(tmp_path.iterdir()), "a lesson writes into temporary folders alone"


@pytest.fixture
def exercise(monkeypatch):
    """An exercise of which 2 is right."""
    monkeypatch.setattr(lessons, "_EXERCISES", {})

    @lessons._exercise("0.1", hint="<b>one</b> and one", because="1 + 1 = 2 & that's it")
    def _(answer, most=3):
        if answer > most:
            return f"{answer} > {most} <script>alert(1)</script>"
        return None if answer == 2 else f"{answer} is not it"


@pytest.mark.usefixtures("exercise")
class TestCheck:
    def test_it_says_right_not_yet_or_not_attempted(self):
        assert repr(lessons.check("0.1", 2)) == "Right: 1 + 1 = 2 & that's it"
        assert repr(lessons.check("0.1", 1)) == 'Not yet: 1 is not it; lessons.hint("0.1") helps'
        assert lessons.check("0.1", 1).right is False and lessons.check("0.1", 4, 5).text.startswith("4 is not it")
        assert lessons.check("0.1", ...).right is None

    @pytest.mark.parametrize("answer", [..., (..., 1), [2, ...]])
    def test_dots_that_stand_alone_or_among_others_are_no_attempt(self, answer):
        verdict = lessons.check("0.1", answer)
        assert verdict.word == "Not attempted" and 'lessons.hint("0.1")' in verdict.text

    @pytest.mark.parametrize("answer", ["two", None, np.array([2, 2]), {}])
    def test_an_answer_that_cannot_be_judged_is_not_yet_right(self, answer):
        verdict = lessons.check("0.1", answer)
        assert verdict.word == "Not yet" and re.search(r"ended in \w+Error: ", verdict.text)

    def test_an_array_among_others_is_no_dots(self):
        assert lessons.check("0.1", (np.array([1]), np.array([2]))).word == "Not yet"

    def test_its_page_holds_text_alone(self):
        page = lessons.check("0.1", 4)._repr_html_()
        assert "&lt;script&gt;" in page and "<script" not in page and 'role="status"' in page
        hint = lessons.hint("0.1")
        assert repr(hint) == "Hint: <b>one</b> and one" and "<b>one" not in hint._repr_html_()

    def test_an_exercise_that_is_not_there_is_an_error(self):
        with pytest.raises(KeyError, match="0.9"):
            lessons.check("0.9", 1)


def _overwrites(z):
    z[z < 0] = 0
    return z > 0


@pytest.mark.parametrize(
    ("decide", "amiss"),
    [
        (lambda z: z >= np.log(0.5), "-0.3, whose sigmoid is 0.43, is called present"),
        (lambda z: z > 0, "0.0, whose sigmoid is 0.50, is called absent; which logit has .5"),
        (lambda z: (z >= 0).astype(int), "it gave int64"),
        (lambda z: (z >= 0).tolist(), "it made list"),
        (_overwrites, "it changes the logits"),
    ],
)
def test_decisions_that_are_not_quite_those_asked_for_are_told_why(decide, amiss):
    verdict = lessons.check("1.3", decide)
    assert verdict.right is False and amiss in verdict.text


@pytest.mark.parametrize(
    ("number", "answer", "amiss"),
    [
        ("1.1", 33, "fraction, 0.33"),
        ("5.1", 8 / 9, "too high"),
        ("5.1", 0.05, "too low"),
        ("5.2", 21.85, "rounded up"),
        ("5.2", 0.9**22, "no number of wolves"),
        ("5.2", -22, "no number of wolves"),
    ],
)
def test_a_known_mistake_is_told_what_it_is(number, answer, amiss):
    assert amiss in lessons.check(number, answer).text


def test_numbers_may_be_given_as_text():
    given = np.array([0.5, 0.7]), np.array([0.6, 0.4])
    assert lessons.check("5.1", "0.1").right and lessons.check("5.2", "22").right
    assert lessons.check("5.3", ("1", "0.4"), *given).right
    for answer in (1, (1, "test_f1"), (1, given[1])):
        assert "expected two numbers" in lessons.check("5.3", answer, *given).text


def test_a_played_figure_follows_its_sliders_and_leaves_a_picture(monkeypatch):
    shown, drawn = [], []
    monkeypatch.setattr("mlworkbench.views.live.show_widget", lambda widget, figure: shown.append((widget, figure)))

    def draw(skill, share_of_rare):
        drawn.append((skill, share_of_rare))
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot([0, skill], [0, share_of_rare])
        return figure

    lessons.play(draw, 'bars of "<b>"', skill=(0, 3, 0.1, 2), share_of_rare=(0, 1, 0.01, 0.5))
    ((widget, figure),) = shown
    *sliders, picture = widget.children
    assert isinstance(figure, Figure) and [slider.description for slider in sliders] == ["skill", "share of rare"]
    assert drawn == [(2, 0.5)] and 'alt="bars of &quot;&lt;b&gt;&quot;"' in picture.value
    before = picture.value
    sliders[0].value = 1.5
    assert drawn[-1] == (1.5, 0.5) and picture.value != before and 'width="200"' in picture.value
