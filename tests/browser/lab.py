"""A notebook in a real JupyterLab in a real Chromium, for tests and benchmarks of what moves."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell stays in the page
    "docmanager-extension/plugin": {"autosave": False},
}
OPTIONS = {
    "ServerApp.ip": "127.0.0.1",
    "ServerApp.port": 0,  # a free one, read back below
    "ServerApp.terminals_enabled": False,
    "ServerApp.allow_root": True,
    "LabApp.expose_app_in_browser": True,
    "LabApp.news_url": None,
    "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    "LabApp.extension_manager": "readonly",
}
# In the page an error looks like any text on stderr; the notebook knows better.
FAILED = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells.flatMap(cell => cell.outputs || [])
  .filter(output => output.output_type === 'error').map(error => `${error.ename}: ${error.evalue}`)"""
QUIET = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-sync")


def chromium() -> str | None:
    """Where Chromium lies, if it does."""
    found = map(shutil.which, (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


class Lab:
    """JupyterLab on loopback with folders of its own; its kernels import this project's package."""

    def __init__(self, home: Path, notebooks: Path):
        folders = {name: home / name for name in ("config", "data", "runtime", "settings", "workspaces", "ipython")}
        for name, content in SETTINGS.items():
            file = folders["settings"] / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(content))
        self.token = secrets.token_hex(16)
        environment = os.environ | {
            **{f"JUPYTER_{name.upper()}_DIR": str(folders[name]) for name in ("config", "data", "runtime")},
            **{f"JUPYTERLAB_{name.upper()}_DIR": str(folders[name]) for name in ("settings", "workspaces")},
            "IPYTHONDIR": str(folders["ipython"]),
            "JUPYTER_TOKEN": self.token,
            "PYTHONPATH": str(PROJECT),
        }
        options = [f"--{name}={value}" for name, value in (OPTIONS | {"ServerApp.root_dir": notebooks}).items()]
        self.log = home / "lab.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", "--no-browser", *options],
                env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._told = folders["runtime"] / f"jpserver-{self.process.pid}.json"
        self.url = ""

    def wait(self, seconds: float = 60) -> None:
        """Until it answers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(OSError, ValueError):
                self.url = f"http://127.0.0.1:{json.loads(self._told.read_text())['port']}"
                self.ask("/api/status")
                return
            time.sleep(0.1)
        raise RuntimeError(f"JupyterLab does not answer:\n{self.log.read_text()[-2000:]}")

    def ask(self, path: str) -> object:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"token {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def end(self) -> None:
        """End the server, which ends its kernels."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self.process.pid, how)
                self.process.wait(15)
                return


class Notebook:
    """One notebook, open in one page."""

    def __init__(self, lab: Lab, page, name: str):
        self.lab, self.page, self.name = lab, page, name
        self.problems: list[str] = []
        self.console: list[str] = []  # what the page calls errors there, JupyterLab's own among them
        page.on("pageerror", lambda error: self.problems.append(f"error in the page: {error}"))
        page.on("console", lambda said: self.console.append(said.text) if said.type == "error" else None)
        page.context.route(lambda url: not url.startswith((lab.url, "data:", "blob:")), self._refuse)
        page.goto(f"{lab.url}/doc/tree/{name}?reset&token={lab.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_function("() => window.jupyterapp")

    def _refuse(self, route) -> None:
        self.problems.append(f"asked for {route.request.url}")
        route.abort()

    def idle(self, seconds: float = 60) -> None:
        """Until its kernel has been found idle twice."""
        end, quiet = time.monotonic() + seconds, 0
        while quiet < 2:
            if time.monotonic() > end:
                raise TimeoutError("the kernel is still busy")
            self.page.wait_for_timeout(80)
            kernels = [session["kernel"] for session in self.lab.ask("/api/sessions") if session["path"] == self.name]
            quiet = quiet + 1 if kernels and kernels[0]["execution_state"] == "idle" else 0

    def run(self, seconds: float = 180) -> None:
        """Run all cells; one that fails is an error."""
        self.idle()
        run = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
        self.page.evaluate(f"() => {{ window.ran = false; {run}.finally(() => {{ window.ran = true }}) }}")
        self.page.wait_for_function("() => window.ran", timeout=1000 * seconds, polling=100)
        self.idle()
        failed = self.page.evaluate(FAILED)
        assert not failed, failed

    def close(self) -> None:
        """Close the page, and end the kernel."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
        self.page.close(run_before_unload=False)


@contextmanager
def served(home: Path, notebooks: Path, width: int = 1280, height: int = 1100) -> Iterator[Callable[[str], Notebook]]:
    """JupyterLab on a folder, as what opens a notebook of it; `home` takes what server and browser write."""
    from playwright.sync_api import sync_playwright

    lab = Lab(home, notebooks)
    try:
        lab.wait()
        with sync_playwright() as playwright:
            context = playwright.chromium.launch_persistent_context(
                home / "browser", executable_path=chromium(), args=[f"--{option}" for option in QUIET],
                viewport={"width": width, "height": height},
            )  # fmt: skip
            try:
                yield lambda name: Notebook(lab, context.new_page(), name)
            finally:
                context.close()
    finally:
        lab.end()


@contextmanager
def opened(home: Path, notebooks: Path, name: str, width: int = 1280, height: int = 1100) -> Iterator[Notebook]:
    """A notebook of a folder in JupyterLab; `home` takes what server and browser write."""
    with served(home, notebooks, width, height) as open_notebook:
        yield open_notebook(name)


@contextmanager
def opened_cell(home: Path, source: str) -> Iterator[Notebook]:
    """A notebook of this one cell, run; for `home` see `opened`."""
    notebooks = home / "notebooks"
    notebooks.mkdir(exist_ok=True)  # data for the cell may lie there
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), notebooks / "cell.ipynb")
    with opened(home, notebooks, "cell.ipynb") as book:
        book.run()
        yield book
