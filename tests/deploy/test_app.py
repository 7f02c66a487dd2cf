"""The page for trying a run out, from the kernel's side: it says what `predict` says, of files and of bytes alike."""

import io

import numpy as np
import pytest
from conftest import HOSTILE_NAMES
from helpers import CLOSE, blocks, untrained_run
from PIL import Image

from mlworkbench import Run, Thresholds, WorkbenchError, predict
from mlworkbench.cli import main
from mlworkbench.deploy import app, try_out
from mlworkbench.text import number


@pytest.fixture
def run(tmp_path):
    return untrained_run(tmp_path / "run", HOSTILE_NAMES)


def encoded(size, form="PNG", seed=5, **options):
    buffer = io.BytesIO()
    blocks(size, seed).save(buffer, form, **options)
    return buffer.getvalue()


def turned(size):
    """A JPEG whose EXIF orientation turns it, large enough to be decoded at a reduced scale."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(size, "JPEG", exif=exif.tobytes())


def files_below(folder):
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


def test_it_says_what_predict_says(run, tmp_path):
    run.save_thresholds(0.999 * run.predict(["0.png"], run.root).probabilities[0])
    before, page = files_below(tmp_path), try_out(run)
    page.choose("0.png")
    assert page.view["present"] == [True] * len(HOSTILE_NAMES)
    for name, data in {"a.png": encoded((50, 80)), "b.jpg": turned((400, 300))}.items():
        page.take(data, name)
        (tmp_path / name).write_bytes(data)
        frame, _ = predict(run, tmp_path / name)
        (tmp_path / name).unlink()
        p, present = np.split(frame.iloc[0, 1:].to_numpy(np.float64), 2)
        np.testing.assert_allclose(page.view["p"], p, **CLOSE)
        assert page.view["present"] == present.astype(bool).tolist() and page.view["name"] == name
        assert [text for text, _ in page.view["numbers"]] == [number(v) for v in page.view["p"]]
    assert page._picture.shape == (640, 480, 3)  # turned, as a person sees it
    page.look(1)
    page.figure()
    assert files_below(tmp_path) | {tmp_path: 0} == before | {tmp_path: 0}


def test_the_present_come_first_then_the_likely_by_the_thresholds_of_now(run):
    page = try_out(run)
    page.choose("1.png")
    p = np.array(page.view["p"])
    least = int(p.argmin())
    run.save_thresholds([0.0 if c == least else 1.0 for c in range(len(p))])
    page.choose("1.png")
    rest = [c for c in np.argsort(-p) if c != least]
    assert page.view["order"] == [least, *rest] and page.view["thresholds"][least] == 0
    run.save_thresholds(Thresholds.default(HOSTILE_NAMES))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "SVG or other XML; save it as PNG"),
        (b"%PDF-1.7", "PDF; save its pages as images"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"),
        (encoded((60, 40), "JPEG")[:700], "truncated or damaged"),
        (b"P6 20000 20000 255\n", "far more pixels by its header than the limit"),
    ],
    ids=["empty", "svg", "pdf", "eps", "truncated", "bomb"],
)
def test_bytes_that_are_no_image_are_told_in_one_line_and_the_image_stays(run, data, reason):
    page = try_out(run)
    shown = page.view
    page.take(data, "x\n<b>.png")
    assert page.view["fault"].startswith(r"'x\n<b>.png': ") and reason in page.view["fault"]
    assert {**page.view, "fault": "", "at": shown["at"]} == shown
    page.another()
    assert page.view["fault"] == "" and page.view["name"] != shown["name"]


def test_bytes_come_in_pieces_and_not_too_many(run, monkeypatch):
    page, data = try_out(run), encoded((90, 70), "BMP")
    cuts = [data[:10], data[10:5000], data[5000:]]
    page.take(data, "whole.png")
    whole = page.view["p"]
    page.another()
    page._take({"do": "piece", "name": "lost.png", "first": True, "last": False}, [memoryview(b"begun and given up")])
    for i, cut in enumerate(cuts):
        page._take({"do": "piece", "name": "a.png", "first": i == 0, "last": i == 2}, [memoryview(cut)])
    assert page.view["p"] == whole and page.view["name"] == "a.png"
    monkeypatch.setattr(app, "MOST", 6000 / 1e6)
    for i, cut in enumerate(cuts):
        page._take({"do": "piece", "name": "b.png", "first": i == 0, "last": False}, [memoryview(cut)])
    assert "b.png: larger than" in page.view["fault"] and page.view["name"] == "a.png"


@pytest.mark.parametrize("path", ["../run.json", "/etc/hostname", "https://a.b/c.png", "nothing.png", "."])
def test_a_path_stays_with_the_images(run, path):
    page = try_out(run)
    page._take({"do": "open", "path": path}, [])
    assert page.view["fault"].startswith(f"{path}: ") and len(page.view["fault"].splitlines()) == 1


def test_without_its_images_it_takes_files_alone(run, tmp_path):
    (tmp_path / "run/images").rename(tmp_path / "elsewhere")
    page = try_out(Run(run.folder))
    assert page.view == {} and page.fixed["tests"] == 0 and not page.fixed["paths"]
    page.figure()
    page._take({"do": "open", "path": "mlworkbench/cli.py"}, [])
    assert "images are not here" in page.view["fault"]
    page.take(encoded((30, 30)), "a.png")
    assert len(page.view["p"]) == len(HOSTILE_NAMES)
    page = try_out(run.folder, tmp_path / "elsewhere")
    assert page.fixed["tests"] == 3 and page.view["name"] in {"0.png", "1.png", "2.png"}


def test_where_a_class_is_seen_is_told_of_the_image_that_is_shown(run):
    page = try_out(run)
    page._take({"do": "look", "at": page.view["at"] - 1, "class": 2}, [])
    assert page.seen == {}
    page._take({"do": "look", "at": page.view["at"], "class": 2}, [])
    assert page.seen["class"] == 2 and page.seen["at"] == page.view["at"]
    page._maps = -np.ones_like(page._maps)
    page.look(0)
    assert page.seen["picture"] == "" and page.seen["said"].startswith("Nothing")


def test_what_goes_wrong_in_the_kernel_is_told_and_the_page_goes_on(run, monkeypatch):
    page = try_out(run)
    monkeypatch.setattr(app, "decode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        page._take({"do": "another"}, [])
    assert page.view["fault"] == "not done: division by zero"
    monkeypatch.undo()
    (run.folder / "thresholds.json").write_text("{")
    page._take({"do": "another"}, [])
    assert "thresholds.json" in page.view["fault"] and page.view["picture"]


def test_a_run_that_cannot_be_opened_is_an_error_at_once(run, tmp_path, monkeypatch, capsys):
    assert main(["app", str(tmp_path / "none"), "--no-browser"]) == 2
    assert "run.json does not exist" in capsys.readouterr().err
    (run.folder / "checkpoints/best.safetensors").write_bytes(b"damaged")
    with pytest.raises(WorkbenchError, match="best.safetensors is no readable safetensors file"):
        try_out(run.folder)
    monkeypatch.setitem(__import__("sys").modules, "voila.app", None)
    assert main(["app", str(run.folder)]) == 2
    assert capsys.readouterr().err == 'error: the page needs Voilà: pip install "mlworkbench[app]"\n'


def test_a_port_that_is_taken_is_told(run, capsys):
    import socket

    pytest.importorskip("voila", reason="the page for others is Voilà's")
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["app", str(run.folder), "--no-browser", "--port", str(other.getsockname()[1])]) == 2
    assert main(["app", str(run.folder), "--no-browser", "--port", "70000"]) == 2
    assert capsys.readouterr().err.count("choose another, or leave out --port") == 2
