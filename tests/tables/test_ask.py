import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlworkbench.tables.ask import command, label_doubt, safe
from mlworkbench.tables.columns import Told


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1), st.text(min_size=1))
def test_commands_are_quoted_for_a_shell(name, value):
    source = Path("here") / f"x{name}"
    words = shlex.split(command(source, "--delimiter", value, told=Told(image_column=value)))
    assert words[:4] == ["mlworkbench", "import", str(source), "--out"] and words[5:7] == ["--delimiter", value]
    assert words[7:] in (["--image-column", value], [f"--image-column={value}"])


def test_the_file_to_write_is_none_that_is_there_and_lies_beside_the_source(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)

    def out():
        return shlex.split(command(folder / "set.csv"))[4]

    assert out() == str(folder / "labels.csv")
    (folder / "labels.csv").touch()
    assert out() == str(folder / "set-labels.csv")
    (folder / "set-labels.csv").touch()
    assert out() == str(folder / "set-labels-2.csv")
    (folder / "classes.txt").touch()
    assert out() == str(folder / "set-labels-2.csv")  # import writes beside other names too


def test_the_file_lies_above_the_images(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    words = shlex.split(command(tmp_path / "labels/a.csv", told=Told(images=tmp_path / "images")))
    assert words[4] == str(tmp_path / "images/labels.csv") and words[5:] == ["--images", str(tmp_path / "images")]


def test_what_is_said_anew_is_not_told_again():
    told = Told(negative="-1", unknown=("0", "x"), columns=("-a", "b"))
    words = shlex.split(command(Path("a.csv"), "--unknown", "?", told=told))
    assert words[5:] == ["--unknown", "?", "--columns=-a", "--columns=b", "--negative=-1"]
    assert safe("--columns", "a", "b") == ("--columns", "a", "b")


@pytest.mark.parametrize(
    ("counts", "options"),
    [
        ({"1": 5, "-1": 9}, ("--negative", "-1")),
        ({"1": 9, "-1": 1}, ("--negative", "-1")),
        ({"1": 20, "-1": 70, "0": 3}, ("--negative", "-1", "--unknown", "0")),
        ({"1": 20, "": 70}, ("--blank", "absent")),
        ({"1": 20, "-1": 70, "0": 30}, None),
        ({"1": 20, "-1": 70, "0": 3, "": 90}, None),  # CheXpert: most is blank
        ({"1": 20, "0": 3, "": 90}, None),
        ({"1": 20, "null": 0}, None),
        ({"-1": 20}, None),
        ({"1": 20}, None),
    ],
)
def test_labels_that_could_mean_two_things(counts, options):
    doubt = label_doubt(counts.items())
    assert (doubt[1] if doubt else None) == options
