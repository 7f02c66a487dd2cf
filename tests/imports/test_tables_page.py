"""Rows of docs/labels.md, section Tables: each file is made as the page says, and its command run."""

import re
import shlex

import numpy as np
import pytest
from conftest import PROJECT
from PIL import Image

from mlworkbench import read_labels
from mlworkbench.cli import main

IMAGES = ("a", "b", "c", "d", "e")


def page_rows():
    section = re.search(r"^## Tables$(.*?)(^## |\Z)", (PROJECT / "docs/labels.md").read_text(), re.M | re.S)[1]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section.splitlines() if line.startswith("| ")]
    return {name.strip(): command.strip(" `").replace("\\|", "|") for name, _, command, _ in cells[1:]}


ROWS = page_rows()
PLAIN = {"a": "10", "b": "01", "c": "11", "d": "00", "e": "01"}
U = {"a": "1?", "b": "01", "c": "11", "d": "?0", "e": "01"}
NAMED = {"a": "10", "b": "01", "c": "11", "d": "??", "e": "01"}
NOT_NAMED = {name: bits for name, bits in PLAIN.items() if name != "d"}


def lines(header, row, images=IMAGES, sign=","):
    text = sign.join(header.split(",")) + "\n" if header else ""
    return text + "".join(sign.join(map(str, row(name))) + "\n" for name in images)


def bits(name, yes="1", no="0", unknown=None, of=PLAIN):
    return [{"1": yes, "0": no, "?": unknown}[bit] for bit in of[name]]


def names(name, none="", sign="|", of=("cat", "dog")):
    return sign.join(n for n, bit in zip(of, PLAIN[name], strict=True) if bit == "1") or none


def each(name, of=("cat", "dog")):
    return [n for n, bit in zip(of, PLAIN[name], strict=True) if bit == "1"]


CAT_DOG = ["cat", "dog"]
# source: (text of its file, classes, {image: present, absent or unknown}, splits)
SOURCES = {
    "a column for each class, and others": (
        lines("photo,cat,dog,age,camera", lambda n: [f"{n}.png", *bits(n, unknown="", of=U), 41 + ord(n), "north"]),
        CAT_DOG, U),
    "some of the columns": (
        lines("photo,cat,dog,age,camera", lambda n: [f"{n}.png", *bits(n), 41 + ord(n), "north"]), ["dog"],
        {n: b[1] for n, b in PLAIN.items()}),
    "yes and no": (lines("photo,cat,dog", lambda n: [f"{n}.png", *bits(n, "yes", "No", "?", U)]), CAT_DOG, U),
    "crosses": (lines("photo,cat,dog", lambda n: [f"{n}.png", *bits(n, "x", "")]), CAT_DOG, PLAIN),
    "CelebA, CSV": (
        lines("image_id,Bald,Smiling", lambda n: [f"{n}.png", *bits(n, no="-1")]), ["Bald", "Smiling"], PLAIN),
    "CelebA, text": (
        "5\nBald Smiling \n" + "".join(f"{n}.png {bits(n, no='-1')[0]:>2} {bits(n, no='-1')[1]:>2}\n" for n in IMAGES),
        ["Bald", "Smiling"], PLAIN),
    "Pascal VOC as a table": (
        lines("image,cat,dog", lambda n: [f"{n}.png", *bits(n, no="-1", unknown="0", of=U)]), CAT_DOG, U),
    "CheXpert": (
        lines("Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema", lambda n: [
            f"CheXpert-v1.0-small/train/{n}.png", "Male" if n < "c" else "Female", 40 + ord(n), "Frontal", "AP",
            *(bits(n, "1.0", "0.0", "" if n == "a" else "-1.0", U))]),
        ["No Finding", "Edema"], U),
    "CheXpert as its authors train it": (
        lines("Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema", lambda n: [
            f"CheXpert-v1.0-small/train/{n}.png", "Male" if n < "c" else "Female", 40 + ord(n), "Frontal", "AP",
            *(bits(n, "1.0", "0.0", "" if n == "a" else "-1.0", U))]),
        ["No Finding", "Edema"], U | {"a": "10"}),
    "NIH ChestX-ray14": (
        lines("Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age", lambda n: [
            f"{n}.png", names(n, "No Finding", of=("Mass", "Nodule")), 0, ord(n) // 2, 50]), ["Mass", "Nodule"], PLAIN),
    "Planet": (lines("image_name,tags", lambda n: [n, names(n, "", " ")]), CAT_DOG, NAMED),
    "Plant Pathology 2021": (lines("image,labels", lambda n: [f"{n}.jpg", names(n, "healthy", " ")]), CAT_DOG, PLAIN),
    "Human Protein Atlas": (
        lines("Id,Target", lambda n: [n, names(n, "2", " ", ("0", "1"))]), ["cat", "dog", "hat"],
        {n: b + "01"[n == "d"] for n, b in PLAIN.items()}),
    "lists that pandas wrote": (
        lines("photo,things", lambda n: [f"{n}.png", f'"{each(n)}"']), CAT_DOG, PLAIN),
    "one row for each label": (
        "photo,label\n" + "".join(f"{n}.png,{own}\n" for n in IMAGES for own in each(n)), CAT_DOG, NOT_NAMED),
    "Open Images, image labels": (
        "ImageID,Source,LabelName,Confidence\na,verification,cat,1\na,verification,dog,0\nb,machine,dog,0.9\nb,machine,cat,0.4\n",
        CAT_DOG, {"a": "10", "b": "?1"}),
    "boxes": (
        "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        + "".join(f"{n}.png,40,40,{own},1,1,9,9\n{n}.png,40,40,{own},2,3,9,9\n" for n in IMAGES for own in each(n)),
        CAT_DOG, NOT_NAMED),
    "fastai": (
        lines("fname,labels,is_valid", lambda n: [f"{n}.png", names(n, "", " "), n in "be"]), CAT_DOG, NAMED,
        ["train", "val", "train", "train", "val"]),
    "folds": (
        lines("photo,cat,dog,fold", lambda n: [f"{n}.png", *bits(n), IMAGES.index(n)]), CAT_DOG, PLAIN,
        ["train", "train", "train", "val", "test"]),
    "Kaggle ids": (
        lines("ID,DR,ARMD", lambda n: [IMAGES.index(n) + 1, *bits(n)]), ["DR", "ARMD"],
        {str(i + 1): PLAIN[n] for i, n in enumerate(IMAGES)}),
    "columns of words": (
        lines("photo,colour,shape", lambda n: [
            f"{n}.png", "red" if n < "c" else "blue", "" if n == "e" else "round" if n > "b" else "flat"]),
        ["colour: blue", "colour: red", "shape: flat", "shape: round"],
        {"a": "0110", "b": "0110", "c": "1001", "d": "1001", "e": "10??"}),
    "PaddleClas": ("".join(f"{n}.png\t{','.join(bits(n))}\n" for n in IMAGES), CAT_DOG, PLAIN),
    "no header, 0 and 1": (lines("", lambda n: [f"{n}.png", *bits(n)]), CAT_DOG, PLAIN),
    "a list of files and class numbers": (
        "".join(f"{n}.png {names(n, '', ' ', ('0', '1'))}\n" for n in IMAGES), CAT_DOG, NAMED),
    "AutoML and Vertex CSV": (
        "".join(f"{use},gs://bucket/set/{n}.png,{names(n, '', ',')}\n" for n, use in zip(
            IMAGES, ("TRAIN", "VALIDATION", "TEST", "UNASSIGNED", "TRAIN"), strict=True)),
        CAT_DOG, PLAIN, ["train", "val", "test", "train", "train"]),
    "Excel's plain CSV": (
        lines("image_path,Kätzchen,dog", lambda n: [f"{n}.png", *bits(n)], sign=";"), ["Kätzchen", "dog"], PLAIN),
    "paths of another machine": (
        lines("image_path,cat,dog", lambda n: [f"/content/drive/set/{n}.png", *bits(n)]), CAT_DOG, PLAIN),
}  # fmt: skip


def test_the_page_and_these_tests_have_the_same_rows():
    assert list(ROWS) == list(SOURCES)


@pytest.mark.parametrize("source", SOURCES)
def test_each_row_of_the_page(source, tmp_path, monkeypatch):
    text, class_names, labels, *splits = SOURCES[source]
    program, command, file, *options = shlex.split(ROWS[source])
    assert (program, command) == ("mlworkbench", "import")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ("CheXpert-v1.0-small/train" if source.startswith("CheXpert") else "images")
    folder.mkdir(parents=True)
    for i, name in enumerate(labels if source == "Kaggle ids" else IMAGES):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (tmp_path / file).write_bytes(text.encode("cp1252" if source == "Excel's plain CSV" else "utf-8"))
    if "names.txt" in options:
        (tmp_path / "names.txt").write_text("cat\ndog\n" + "hat\n" * (source == "Human Protein Atlas"))
    assert main([command, file, *options]) == 0

    table = read_labels("labels.csv")
    assert table.class_names == class_names
    found = {path.split("/")[-1].split(".")[0]: row for path, row in zip(table.paths, table.y.tolist(), strict=True)}
    assert found == {name: [{"1": 1, "0": 0, "?": -1}[bit] for bit in own] for name, own in labels.items()}
    assert (table.split is None) == (not splits) and (not splits or list(table.split) == splits[0])
    if "--group-column" in options:
        assert list(table.group) == [str(ord(name) // 2) for name in IMAGES]
    assert all((tmp_path / path).is_file() for path in table.paths)
