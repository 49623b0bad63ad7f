"""The code on the documentation's pages runs, and every figure that they quote was printed by a script.

Conventions of ``docs/*.md``: ``<!-- run -->`` on the line before a block of Python or shell has it run here, all blocks
of a page in order and in one folder; ``<!-- prints -->`` before a block is what the block before it must have printed.
A paragraph that links to files of ``benchmarks/reproduce/output/`` quotes them: every number with a decimal point in
it, and in a table right behind it, must stand there; in README.md it may be rounded, and a share in percent.
"""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
README = ROOT / "README.md"
MARKED = re.compile(r"^<!-- (?P<mark>\w+) -->\n```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(r"\]\((?P<path>[^)\s]*benchmarks/reproduce/output/[^)\s]+)\)")
NUMBER = re.compile(r"(?<![\w.])-?\d*\.\d+(?![\w.]*\d)")
ARXIV = re.compile(r"\d{4}\.\d{5}")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that no other test adds tables to; what is out of the box is converted once for all pages."""
    return tmp_path_factory.mktemp("pages-data")


@pytest.mark.parametrize("page", [page for page in PAGES if MARKED.search(page.read_text())], ids=name)
def test_marked_code_runs(
    page: Path,
    tmp_path: Path,
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NASPLUG_DATA", str(data_folder))
    monkeypatch.setenv("PATH", sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"])
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # what a page defines, dataclasses look up there
    text, printed = page.read_text(), ""
    for block in MARKED.finditer(text):
        where = f"{name(page)}, line {text.count(chr(10), 0, block.start('code'))}"
        if block["mark"] == "prints":
            assert printed.split() == block["code"].split(), where
        elif block["language"] == "python":
            exec(compile(block["code"], where, "exec"), vars(module))
            printed = capsys.readouterr().out
        else:
            assert (block["mark"], block["language"]) == ("run", "sh"), where
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block["code"]], capture_output=True, text=True, timeout=250
            )
            assert done.returncode == 0, f"{where}: {done.stderr}"
            printed = done.stdout


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_other_python_is_python(page: Path) -> None:
    for block in PYTHON.finditer(page.read_text()):
        ast.parse(block["code"])


def quotes(page: Path) -> bool:
    """Return whether a page quotes outputs of scripts, and is none itself."""
    text = page.read_text()
    return OUTPUT.search(text) is not None and "Written by benchmarks/reproduce/" not in text


def rounded(number: str, printed: str) -> bool:
    """Return whether a number is one of those printed, or 100 times it, as far as its own decimals go; signs aside."""
    decimals, quoted = len(number.partition(".")[2]), abs(float(number))
    half = 0.5 * 10**-decimals + 1e-9
    every = [float(one) for one in re.findall(r"\d*\.?\d+", printed)]
    return any(abs(scale * one - quoted) <= half for one in every for scale in (1, 100))


@pytest.mark.parametrize("page", [page for page in (README, *PAGES) if quotes(page)], ids=name)
def test_quoted_figures_were_printed(page: Path) -> None:
    sources: list[Path] = []
    for paragraph in page.read_text().split("\n\n"):
        linked = [page.parent / match["path"] for match in OUTPUT.finditer(paragraph)]
        if not paragraph.startswith("|"):
            sources = linked
        if not sources:
            continue
        printed = " ".join(path.read_text() for path in sources)
        for number in NUMBER.findall(ARXIV.sub("", OUTPUT.sub("", paragraph))):
            exactly = re.search(rf"(?<![\d.-]){re.escape(number)}(?!\d)", printed)
            assert exactly or (page == README and rounded(number, printed)), (
                f"{name(page)} quotes {number}, which {', '.join(path.name for path in sources)} does not have"
            )
