"""The pages of the documentation, against what is so.

That the site builds without a warning is checked where Sphinx is installed: by
`.ci/run`.
"""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "api").glob("*.md")),
]
each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(ROOT))
)
with_code = pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.parent in (ROOT, ROOT / "docs")],
    ids=lambda page: page.stem,
)


def text_of(page):
    return page.read_text(encoding="utf-8")


def code_blocks(page):
    return re.findall(r"^```python\n(.*?)^```", text_of(page), re.M | re.S)


def links(page):
    """Yields the targets of links and pictures that are files."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if not target.startswith(("http", "#")):
            yield target.partition("#")[0]


def test_pages_have_code():
    assert sum(len(code_blocks(page)) for page in PAGES) >= 5


@with_code
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for what it saves
    names = {"__name__": "__main__"}
    for block in code_blocks(page):
        exec(compile(block, page.name, "exec"), names)


@each_page
def test_links_lead_to_files(page):
    missing = [
        target for target in links(page) if not (page.parent / target).exists()
    ]
    assert missing == []


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").split()) <= 1000


def test_files_that_contributing_names_exist():
    named = re.findall(
        r"`((?:tests|docs|keras_treegate|tutorials)/[\w./]*)`",
        text_of(ROOT / "CONTRIBUTING.md"),
    )
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_helper_of_the_tests_is_in_the_index():
    helpers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if not path.name.startswith(("test_", "__", "conftest"))
    }
    index = re.findall(
        r"^\| `(tests/[\w/]+\.py)` \|", text_of(ROOT / "CONTRIBUTING.md"), re.M
    )
    assert sorted(index) == sorted(helpers)


# Things that two parts can share without an argument.
SHARED = {
    ("weakref", "ref"),
    ("weakref", "WeakKeyDictionary"),
    ("weakref", "WeakSet"),
    ("weakref", "WeakValueDictionary"),
    ("threading", "local"),
    ("functools", "cache"),
    ("functools", "lru_cache"),
    ("inspect", "currentframe"),
    ("os", "environ"),
}


def channels(tree):
    """Yields each channel that a file opens, and each object it marks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if (ast.unparse(node.value), node.attr) in SHARED:
                yield ast.unparse(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Attribute):
                    owner = ast.unparse(target.value)
                    marked = re.search(r"\b(variable|nodes)(\[\d+\])?$", owner)
                    if marked or target.attr == "call":
                        yield ast.unparse(target)


def test_every_channel_is_on_the_page_of_the_design():
    package = ROOT / "keras_treegate"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(channels(ast.parse(path.read_text(encoding="utf-8"))))
    }
    page = text_of(ROOT / "docs" / "design.md")
    section = page.partition("## How the parts find each other")[2]
    assert set(re.findall(r"`([\w/]+\.py)`", section)) == found


@pytest.mark.parametrize(
    "line",
    [
        "variable.level = level",
        "layer.nodes[0].owner = layer",
        "found = weakref.WeakSet()",
        "class Waiting(threading.local): pass",
        "@functools.cache\ndef compiled(): pass",
    ],
)
def test_a_channel_is_found(line):
    assert list(channels(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    ["self.nodes = nodes", "variable = 1", "lock = threading.RLock()"],
)
def test_what_is_no_channel_is_not_found(line):
    assert not list(channels(ast.parse(line)))


def numbers(version):
    return [int(number) for number in version.split(".")]


def test_readme_has_the_lowest_versions():
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    names = {"keras": "Keras", "jax": "JAX", "torch": "PyTorch"}
    names |= {"tensorflow": "TensorFlow"}
    readme = " ".join(text_of(ROOT / "README.md").split())
    needed = [project["dependencies"][0]]
    needed += [extras[name][0] for name in names if name != "keras"]
    for one in needed:
        name, version = one.split(">=")
        assert f"{names[name]} {version.rpartition('.')[0]}" in readme


def test_the_changelog_has_the_version_of_the_package():
    import keras_treegate

    headings = re.findall(
        r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$",
        text_of(ROOT / "CHANGELOG.md"),
        re.M,
    )
    assert headings[0] == ("Unreleased", "")
    version, date = headings[1]
    # After a release it is that of the next one, in development.
    ours, _, in_development = keras_treegate.__version__.partition(".dev")
    assert ours == version or (
        in_development and numbers(ours) > numbers(version)
    )
    citation = text_of(ROOT / "CITATION.cff")
    assert f"version: {version}\ndate-released: {date}\n" in citation
