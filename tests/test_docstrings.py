"""Statements of docstrings, against the code."""

import ast
import doctest
import inspect
import re
from pathlib import Path

import keras
import pytest

import keras_treegate

ROOT = Path(__file__).resolve().parent.parent

# Modules in which users find names. One that does not exist is passed over.
DOORS = (
    "keras_treegate",
    "keras_treegate.layers",
    "keras_treegate.gates",
    "keras_treegate.credit",
    "keras_treegate.losses",
    "keras_treegate.optimizers",
    "keras_treegate.callbacks",
    "keras_treegate.plotting",
    "keras_treegate.distribution",
    "keras_treegate.transforms",
)


def is_built(door):
    path = ROOT / door.replace(".", "/")
    init = path / "__init__.py"
    return init.is_file() or path.with_suffix(".py").is_file()


def opened(door):
    """Returns a door as `import keras_treegate` alone opens it."""
    module = keras_treegate
    for name in door.split(".")[1:]:
        module = getattr(module, name)
    return module


def public_names():
    """Returns {full name: object}, each object under its first name."""
    names, seen = {}, set()
    for door in filter(is_built, DOORS):
        module = opened(door)
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and id(value) not in seen:
                seen.add(id(value))
                names[f"{door}.{name}"] = value
    return names


VARIADIC = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
# Keras documents these, on a class with or without a Keras base.
KERAS_METHODS = {"get_config", "from_config"}
PUBLIC = public_names()
each_public_name = pytest.mark.parametrize("name", PUBLIC)


def own_members(cls):
    """Returns the public methods and properties that no foreign base has."""
    foreign = [
        base
        for base in cls.__mro__
        if not base.__module__.startswith("keras_treegate")
    ]
    return {
        name: member
        for name, member in vars(cls).items()
        if inspect.isroutine(member) or isinstance(member, property)
        if not name.startswith("_") and name not in KERAS_METHODS
        if not any(hasattr(base, name) for base in foreign)
    }


def documented_arguments(docstring):
    """Returns {argument: text} of the `Args:` section."""
    section = re.search(
        r"^Args:\n((?:[ ]+.*\n|\n)+)", inspect.cleandoc(docstring) + "\n", re.M
    )
    if section is None:
        return {}
    entries = re.split(
        r"^ {4}(\*{0,2}\w+)(?: \([^)]*\))?:", section[1], flags=re.M
    )
    texts = (" ".join(text.split()) for text in entries[2::2])
    return dict(zip(entries[1::2], texts, strict=True))


def documented_default(text):
    """Returns the X of "Defaults to `X`", None if the text names none."""
    found = re.search(r"[Dd]efaults? to `([^`]*)`", text)
    return found and found[1]


def differences(value):
    """Yields what the `Args:` of an object say that its signature does not."""
    arguments = documented_arguments(inspect.getdoc(value) or "")
    parameters = {
        VARIADIC.get(parameter.kind, "") + name: parameter
        for name, parameter in inspect.signature(value).parameters.items()
    }
    for unknown in arguments.keys() - parameters.keys():
        yield f"`{unknown}` is documented and is no argument"
    for name, parameter in parameters.items():
        if parameter.kind in VARIADIC:
            continue
        if name not in arguments:
            yield f"`{name}` is not documented"
            continue
        stated = documented_default(arguments[name])
        has_default = parameter.default is not parameter.empty
        if has_default and stated is None:
            yield f"`{name}` states no default"
        elif has_default and not is_same(stated, parameter.default):
            yield f"`{name}` states {stated}, is {parameter.default!r}"
        elif stated is not None and not has_default:
            yield f"`{name}` states {stated} and has no default"


def is_same(stated, default):
    try:
        value = ast.literal_eval(stated)
    except (ValueError, SyntaxError):
        return stated == getattr(default, "__name__", repr(default))
    return type(value) is type(default) and value == default


def test_every_door_opens():
    assert any(name.endswith(".TreeGatedDense") for name in PUBLIC)


@each_public_name
def test_arguments_and_defaults_are_documented(name):
    assert list(differences(PUBLIC[name])) == []


@each_public_name
def test_own_methods_are_documented(name):
    value = PUBLIC[name]
    if inspect.isclass(value):
        bare = [
            member_name
            for member_name, member in own_members(value).items()
            if not inspect.getdoc(member)
        ]
        assert bare == []


@each_public_name
def test_the_example_runs(name):
    docstring = inspect.getdoc(PUBLIC[name]) or ""
    example = doctest.DocTestParser().get_doctest(
        docstring, {"__name__": "__main__"}, name, None, None
    )
    assert example.examples, f"{name} has no example (no line with >>>)"
    keras.utils.set_random_seed(0)
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    output = []
    runner.run(example, out=output.append)
    assert runner.failures == 0, "".join(output)


def example(
    units, depth=4, num_trees="auto", seed: int | None = None, **kwargs: int
):
    """Does nothing: it is an example.

    Args:
        units: Positive integer.
        depth: Integer, bits of a path: at most
            20. Defaults to `4`.
        num_trees: `"auto"`, `None` or an integer. Defaults
            to `"auto"`.
        seed: Integer or `None`. Defaults to `None`.
        **kwargs: Passed on: `name`, `dtype`.

    Returns:
        Nothing: it is an example.
    """


def test_a_true_docstring_has_no_differences():
    assert list(differences(example)) == []


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        ("`4`", "`5`", "`depth` states 5, is 4"),
        ("`4`", "`4.0`", "`depth` states 4.0, is 4"),
        ('to `"auto"`', "to `None`", "`num_trees` states None, is 'auto'"),
        ("Defaults to `None`.", "", "`seed` states no default"),
        ("units:", "unit:", "`units` is not documented"),
        ("units:", "unit:", "`unit` is documented and is no argument"),
        ("integer.", "integer. Defaults to `1`.", "has no default"),
        ("Args:", "Arguments:", "`units` is not documented"),
    ],
)
def test_a_false_docstring_is_found(monkeypatch, before, after, difference):
    docstring = example.__doc__.replace(before, after, 1)
    monkeypatch.setattr(example, "__doc__", docstring)
    assert any(difference in found for found in differences(example))
