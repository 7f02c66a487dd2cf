"""What holds for the project as a whole."""

import ast
import re
import tomllib

import pytest
import yaml
from conftest import PROJECT

PACKAGE = PROJECT / "mlworkbench"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))
FREE = {"exceptions"}  # everything may import it


def drawn_arrows():
    drawing = re.search(r"```mermaid\n(.*?)```", (PROJECT / "docs/architecture.md").read_text(), re.DOTALL)[1]
    arrows = {name: set() for name in MODULES}
    for source, targets in re.findall(r"^\s*(\w+) --> ([\w &]+)$", drawing, re.MULTILINE):
        arrows[source] |= {target.strip() for target in targets.split("&")}
    return arrows


def imports_of(module):
    """Sibling modules that a module imports, anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found & set(MODULES)


def reachable(arrows, start):
    seen, todo = set(), [start]
    while todo:
        for target in arrows[todo.pop()] - seen:
            seen.add(target)
            todo.append(target)
    return seen


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_drawing(module):
    arrows = drawn_arrows()
    assert imports_of(module) - FREE <= reachable(arrows, module), "an import that is not drawn"
    assert arrows[module] <= imports_of(module), "an arrow that nobody imports"


def test_nothing_imports_the_command_line_and_only_three_modules_import_ultralytics():
    users = {
        name
        for name in MODULES
        if re.search(r"^\s*(from|import) ultralytics", (PACKAGE / f"{name}.py").read_text(), re.M)
    }
    assert users == {"model", "ultralytics_route", "yolo"}
    assert not any("cli" in imports_of(name) for name in MODULES)


def code_lines(source):
    """Lines that are code: neither blank, nor comment, nor docstring."""
    documented = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            documented |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for i, line in lines if line.strip() and i not in documented and not line.lstrip().startswith("#"))


def test_modules_stay_small():
    sources = [(PACKAGE / f"{name}.py").read_text() for name in MODULES]
    assert max(len(source.splitlines()) for source in sources) <= 420
    assert sum(map(code_lines, sources)) <= 6300


def test_the_environment_file_names_nothing_that_pyproject_does_not():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert conda == [f"python {project['requires-python']}", "pip"] and pip == {"pip": ["-e .[test]"]}
    assert "test" in project["optional-dependencies"]


def test_the_lock_holds_versions_only_and_every_dependency():
    lock = (PROJECT / "requirements.lock").read_text()
    assert not re.search(r"https?://|--index|--find-links|@ file", lock)
    locked = {re.match(r"[\w.-]+", line)[0].lower() for line in lock.splitlines() if re.match(r"\w", line)}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert {re.match(r"[\w.-]+", name)[0].lower() for name in needed} <= locked


def test_the_front_page_is_what_it_says():
    import mlworkbench

    for name in mlworkbench.__all__:
        assert getattr(mlworkbench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mlworkbench.nonsense
