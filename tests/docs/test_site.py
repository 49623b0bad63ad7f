"""The documentation site builds without a warning, needs no network, and has a place for every public name."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LOADED = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*""")
LOADED_BY_CSS = re.compile(r"""(?:url\(|@import )["']?(?:https?:)?//""")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason="the site is built by nasplug[docs]")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # Material's own notice
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=280, env=quiet)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_pages_are_whole_and_need_no_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        assert not LOADED.search(page.read_text()), page
        assert "--8" not in page.read_text(), f"{page}: a snippet was not included"
    for style in site.rglob("*.css"):
        assert not LOADED_BY_CSS.search(style.read_text()), style


def test_carries_the_files_it_links_to(site: Path) -> None:
    shown = (site / "repository" / "benchmarks" / "reproduce" / "output" / "relative_improvement.txt").read_bytes()
    assert shown == (TOP / "benchmarks" / "reproduce" / "output" / "relative_improvement.txt").read_bytes()
    page = (site / "methods" / "protocol.html").read_text()
    assert 'href="../repository/benchmarks/reproduce/output/relative_improvement.txt"' in page


def test_documents_every_public_name(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    documented = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    with (TOP / "pyproject.toml").open("rb") as file:
        rooms = tomllib.load(file)["tool"]["setuptools"]["package-dir"]
    missing = [
        path
        for package, folder in rooms.items()
        if package not in ("nasplug", "nasplug.plugins.cli")
        for path in _public(package, TOP / folder / "__init__.py")
        if path not in documented
    ]
    assert missing == []


def _public(package: str, source: Path) -> list[str]:
    """Return where the names that a package exports are defined; its modules are not imported."""
    tree = ast.parse(source.read_text())
    defined = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            defined |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [defined.get(name, f"{package}.{name}") for name in ast.literal_eval(node.value)]
    return []
