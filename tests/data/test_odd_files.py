"""Odd images and labels files, made on the fly: each is accepted, quarantined or refused, and nothing else happens."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mlworkbench.cli import main

GOOD = 20
ACCEPTED, QUARANTINED = True, False


def encoded(format, mode="RGB", size=(24, 16), **options):
    numbers = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(numbers).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def png_header(width, height):
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def odd_images(folder):
    """(name, verdict) of each odd image written into the folder."""
    files = {}
    for mode in ("L", "P", "1", "RGBA", "LA"):
        files[f"mode {mode}.png"] = (encoded("PNG", mode), ACCEPTED)
    for format, suffix in (
        ("BMP", "bmp"),
        ("WEBP", "webp"),
        ("GIF", "gif"),
        ("TIFF", "tif"),
        ("AVIF", "avif"),
        ("PPM", "ppm"),
    ):
        files[f"a.{suffix}"] = (encoded(format), ACCEPTED)
        files[f"a {suffix} that says it is a.jpg"] = (encoded(format), ACCEPTED)
    files["cmyk.jpg"] = (encoded("JPEG", "CMYK"), ACCEPTED)
    files["progressive.jpg"] = (encoded("JPEG", progressive=True), ACCEPTED)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        files[f"turned {turn}.jpg"] = (encoded("JPEG", exif=exif), ACCEPTED)
    files["exif nonsense.jpg"] = (encoded("JPEG", exif=b"Exif\0\0nonsense"), ACCEPTED)
    files["one pixel.png"] = (encoded("PNG", size=(1, 1)), ACCEPTED)
    files["very wide.png"] = (encoded("PNG", size=(3000, 1)), ACCEPTED)
    files["after the end.jpg"] = (encoded("JPEG") + b"<?php system('touch executed'); ?>", ACCEPTED)
    for name in (
        "=1+1.jpg",
        "-x.jpg",
        "@x.jpg",
        "<b>x<b>.jpg",
        "$x$.jpg",
        "ü é 图.jpg",
        "a,b.jpg",
        'quote".jpg',
        "it's.jpg",
        "  .jpg",
        "a\nb.jpg",
    ):
        files[name] = (encoded("JPEG"), ACCEPTED)
    for format in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
        whole = encoded(format, size=(60, 40))
        for share in (0.05, 0.5, 0.9):
            files[f"cut {share} {format}"] = (whole[: int(len(whole) * share)], QUARANTINED)
    rng = np.random.default_rng(1)
    for i in range(10):
        files[f"noise {i}.jpg"] = (rng.bytes(200), QUARANTINED)
        files[f"noise after a header {i}.jpg"] = (b"\xff\xd8\xff\xe0" + rng.bytes(200), QUARANTINED)
        files[f"noise after a header {i}.png"] = (b"\x89PNG\r\n\x1a\n" + rng.bytes(200), QUARANTINED)
    files["empty.jpg"] = (b"", QUARANTINED)
    files["text.jpg"] = (b"hello", QUARANTINED)
    files["page.jpg"] = (b"<html><script>alert(1)</script></html>", QUARANTINED)
    files["drawing.svg"] = (b"<svg xmlns='http://www.w3.org/2000/svg'/>", QUARANTINED)
    files["script.eps"] = (encoded("EPS"), QUARANTINED)
    files["document.pdf"] = (encoded("PDF"), QUARANTINED)
    for width, height in ((100_000, 100_000), (2**31 - 1, 2**31 - 1), (20_000, 6_000), (0, 5), (5, 0)):
        files[f"claims {width}x{height}.png"] = (png_header(width, height), QUARANTINED)
    files["claims more than it has.png"] = (png_header(50, 50), QUARANTINED)
    folder.mkdir()
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    (folder.parent / "outside.jpg").write_bytes(encoded("JPEG"))
    (folder / "link inside.jpg").symlink_to(folder / "turned 1.jpg")
    (folder / "link outside.jpg").symlink_to(folder.parent / "outside.jpg")
    (folder / "link to itself.jpg").symlink_to(folder / "link to itself.jpg")
    (folder / "link to nothing.jpg").symlink_to(folder / "nothing.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    verdicts = {name: verdict for name, (_, verdict) in files.items()} | {"link inside.jpg": ACCEPTED}
    quarantined = [
        "link outside.jpg", "link to itself.jpg", "link to nothing.jpg", "device.jpg", "folder.jpg", "pipe.jpg",
        "missing.jpg", "../outside.jpg", str(folder.parent / "outside.jpg"), "/etc/passwd", "http://localhost:1/a.jpg",
        "file:///etc/passwd", "x" * 300, "a/" * 3000 + "b.jpg", "nul\0.jpg", ".", "..", "~/a.jpg", "$HOME/a.jpg",
        "*.jpg",
    ]  # fmt: skip
    return verdicts | dict.fromkeys(quarantined, QUARANTINED)


def cell(text):
    return '"' + text.replace('"', '""') + '"'


def checked(labels, *options):
    report = labels.with_name("report.json")
    report.unlink(missing_ok=True)
    status = main(["check", str(labels), "--json", str(report), *options])
    return status, json.loads(report.read_text()) if report.exists() else None


def test_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "images"
    verdicts = odd_images(folder)
    assert len(verdicts) > 110
    for i in range(GOOD):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(
            folder / f"good{i}.png"
        )
    names = [*verdicts, *(f"good{i}.png" for i in range(GOOD))]
    (folder / "labels.csv").write_text(
        "image_path,labels\n" + "".join(f'{cell(name)},"[1, 0]"\n' for name in names), encoding="utf-8", newline=""
    )
    status, report = checked(folder / "labels.csv", "--max-quarantine", "0.9")
    aside = {row["image_path"]: row["reason"] for row in report["quarantine"]}
    assert status == 0 and {name for name, verdict in verdicts.items() if verdict is QUARANTINED} == set(aside)
    assert all(reason and "\n" not in reason for reason in aside.values())
    assert not (tmp_path / "executed").exists()
    assert "Traceback" not in "".join(capsys.readouterr())


ROW = 'good{}.png,"[1, 0]"\n'
ROWS = "".join(ROW.format(i) for i in range(GOOD))
HEAD = "image_path,labels\n"
LABELS = {
    "header": HEAD + ROWS,
    "no header": ROWS,
    "crlf": (HEAD + ROWS).replace("\n", "\r\n"),
    "old mac": (HEAD + ROWS).replace("\n", "\r"),
    "no newline at the end": HEAD + ROWS.rstrip(),
    "empty lines": HEAD + "\n\n" + ROWS.replace("\n", "\n\n"),
    "byte order mark": "\ufeff" + HEAD + ROWS,
    "spaces after commas": HEAD + ROWS.replace(",", ", "),
    "upper-case header": HEAD.upper() + ROWS,
    "empty cells behind": HEAD + ROWS.replace("\n", ",,\n"),
    "numpy": HEAD + ROWS.replace("[1, 0]", "[1 0]"),
    "words": HEAD + ROWS.replace("[1, 0]", "[True, False]"),
    "unquoted": HEAD + ROWS.replace('"', ""),
    "unknown": HEAD + ROWS.replace("[1, 0]", "[null, -1]"),
    "code beside the labels": "image_path,labels,note\n" + ROWS.replace("\n", ",=cmd|' /C calc'!A0\n"),
    "json arrays": "".join(f'["good{i}.png", [1, 0]]\n' for i in range(GOOD)),
    "json objects": "".join(f'{{"image_path": "good{i}.png", "labels": [1, 0]}}\n' for i in range(GOOD)),
    "columns": "path,=1+1,<script>\n" + "".join(f"good{i}.png,1,0\n" for i in range(GOOD)),
    "tags": "file,tags\n" + "".join(f"good{i}.png,dog|hat\n" for i in range(GOOD)),
    "tabs": "image\tlabels\n" + "".join(f"good{i}.png\t[1, 0]\n" for i in range(GOOD)),
    "the same row again": HEAD + ROWS + ROW.format(3),
}
BAD_CELLS = [
    "", "x", "1", "[", "]", "[]", "[1", "[1, 0, 1]", "[1]", "[2, 0]", "[1, 0.5]", "[1, -2]", "[1,, 0]", "[1, 0],", "{}",
    '{"a": 1}', "[[1, 0]]", "[1, [0]]", "['1', '0', '1']", "[1, 0]; import os",
    "__import__('os').system('touch executed')",
    "[x for x in (1,)]", "[1e999, 0]", "[1, Infinity]", "(1, 0)", "[yes, no]", "[a, b]", "[0x1, 0]", "[1_0, 0]",
    "[١, ٢]",
    "=1+1", "@SUM(1)", "[1, 0" + " " * 5000, "[" * 20_000, "9" * 5000, "\0", "[1, 0]\0", "\u202e[0, 1]", "[1,\n0,\n1]",
]  # fmt: skip
FAULTY = {f"cell {i}": HEAD + ROWS + f"odd.png,{cell(text)}\n" for i, text in enumerate(BAD_CELLS) if text}
FAULTY |= {
    "empty": "",
    "only newlines": "\n\n\n",
    "only a header": HEAD,
    "only a mark": "\ufeff",
    "no path column": "name,labels\n" + ROWS,
    "no labels column": "image_path\n" + "good0.png\n",
    "twice the same column": "image_path,labels,labels\n" + ROWS.replace("\n", ',"[1, 0]"\n'),
    "an empty path": HEAD + ROWS + ',"[1, 0]"\n',
    "a short row": HEAD + ROWS + "good0.png\n",
    "a long row": HEAD + ROWS + 'a.png,"[1, 0]",x\n',
    "a quote that is never closed": HEAD + ROWS + 'a.png,"[1, 0]\n',
    "a quote in the wrong place": HEAD + ROWS + 'a.png,"[1, 0]"x\n',
    "a conflict": HEAD + ROWS + 'good0.png,"[0, 1]"\n',
    "a split of another name": "image_path,labels,split\n" + ROWS.replace("\n", ",dev\n"),
    "a json document": json.dumps({"images": [], "annotations": [], "categories": []}, indent=1),
    "a json array of all": json.dumps([[f"good{i}.png", [1, 0]] for i in range(GOOD)]),
    "json cut short": '["good0.png", [1, 0]]\n["good1.png", [1, 0]\n',
    "json of several kinds": '["good0.png", [1, 0]]\n"text"\n5\n',
    "a page": "<!DOCTYPE html><html><body>Not found</body></html>",
    "a column without a name": "image_path,cat,\n" + "good0.png,1,0\n",
    "words in columns": "image_path,cat\n" + "good0.png,maybe\n",
}
BYTES = {
    "latin-1": (HEAD + ROWS + 'é.png,"[1, 0]"\n').encode("latin-1"),
    "utf-16 without a mark": (HEAD + ROWS).encode("utf-16-le"),
    "nulls": bytes(5000),
    "noise": np.random.default_rng(0).bytes(5000),
    "a picture": encoded("PNG"),
    "gzip": zlib.compress((HEAD + ROWS).encode()),
    "parquet's first letters": b"PAR1" + bytes(100) + b"PAR1",
    "one endless line": b"x" * 3_000_000,
    "endless cells": b"," * 1_000_000,
    "many quotes": b'"' * 100_001,
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd labels")
    for i in range(GOOD):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(
            folder / f"good{i}.png"
        )
    return folder


@pytest.mark.parametrize("name", [*LABELS, "utf-16", "utf-32"])
def test_labels_that_are_accepted(good, capsys, name):
    encoding = name if name in ("utf-16", "utf-32") else "utf-8"
    (good / "labels.csv").write_text(LABELS.get(name, HEAD + ROWS), encoding=encoding, newline="")
    status, report = checked(good / "labels.csv")
    assert status == 0 and report["rows"] == GOOD and report["faults"] == report["quarantine"] == []


@pytest.mark.parametrize("name", [*FAULTY, *BYTES])
def test_labels_that_are_refused(good, capsys, monkeypatch, name):
    monkeypatch.chdir(good)
    (good / "labels.csv").write_bytes(FAULTY[name].encode() if name in FAULTY else BYTES[name])
    status, report = checked(good / "labels.csv")
    text = capsys.readouterr().err
    assert status == 2 and text.startswith("error: ") and "Traceback" not in text
    assert not (good / "executed").exists()
    assert report["faults"]
    assert all(fault["line"] >= 1 and fault["message"] for fault in report["faults"])
