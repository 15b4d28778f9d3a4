"""Rules for comments and docstrings that a reading of the source can check."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("keras_treegate", "benchmarks", "tutorials", "tests", "docs")
FILES = [
    file
    for folder in FOLDERS
    for file in sorted((ROOT / folder).rglob("*.py"))
    if "_build" not in file.parts
] + [ROOT / "saved_models" / "build.py"]

# A sentence that starts so has no verb, or says late what it is about.
UNCLEAR = re.compile(r"(What|Which|Where|How|Of|As|Now)\b")
# A function does something: "Returns", "Draws", "Writes".
VERB = re.compile(r"[A-Z][a-z]+s\b")
NO_VERB = re.compile(r"(This|Its|Inputs|Outputs|Examples|Codes|Keras)\b")

DOCUMENTED = (
    *(ast.Module, ast.ClassDef),
    *(ast.FunctionDef, ast.AsyncFunctionDef),
)


def docstrings(source):
    """Yields (line, node, docstring) of each that is there."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, node, text


def comments(source):
    """Yields (line, text) of each comment, once for all lines of a block."""
    before = None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            alone = token.line.strip() == token.string
            if not alone or before != (line - 1, column):
                yield line, token.string.lstrip("#").strip()
            before = (line, column) if alone else None


def unclear(source):
    """Yields each comment and docstring that starts with an unclear word."""
    texts = [(line, text) for line, _, text in docstrings(source)]
    for line, text in [*texts, *comments(source)]:
        if UNCLEAR.match(text):
            yield f"line {line}: {text.splitlines()[0]}"


def without_verb(source):
    """Yields each docstring of a function that does not start with a verb."""
    for line, node, text in docstrings(source):
        if isinstance(node, ast.Module | ast.ClassDef):
            continue
        decorators = map(ast.unparse, node.decorator_list)
        if any(name.endswith(("property", ".setter")) for name in decorators):
            continue  # has the docstring of an attribute
        if NO_VERB.match(text) or not VERB.match(text):
            yield f"line {line}: {text.splitlines()[0]}"


@pytest.mark.parametrize("rule", [unclear, without_verb])
def test_comments_and_docstrings(rule):
    found = [
        f"{file.relative_to(ROOT)}, {problem}"
        for file in FILES
        for problem in rule(file.read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    ['"""What this is for."""', "x = 1  # Of all", "# As many as.\nx = 1"],
)
def test_an_unclear_start_is_found(source):
    assert list(unclear(source))


@pytest.mark.parametrize(
    "source",
    ['"""Whatever it is."""', "# One line.\n# As the first goes on.\nx = 1"],
)
def test_other_starts_are_clear(source):
    assert not list(unclear(source))


@pytest.mark.parametrize(
    ("text", "is_verb"),
    [("Returns one.", True), ("The one.", False), ("Codes of one.", False)],
)
def test_a_docstring_without_a_verb_is_found(text, is_verb):
    source = f'def one():\n    """{text}"""'
    assert bool(list(without_verb(source))) is not is_verb
