"""The dataset holds the standard library of the Python that runs."""

import platform
from pathlib import Path

import pytest

from tutorials.tfds_builders import source_text
from tutorials.tfds_builders.python_source import PythonSource


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    def prepare():
        builder = PythonSource(data_dir=tmp_path_factory.mktemp("data"))
        builder.download_and_prepare()
        return builder

    return prepare


@pytest.fixture(scope="module")
def builder(prepare):
    return prepare()


def texts(builder, split):
    examples = builder.as_data_source(split=split)
    return {e["path"].decode(): e["text"] for e in examples}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_holds_its_files(builder, split):
    expected = getattr(source_text.read(), split)
    assert len(expected) > 10
    assert texts(builder, split) == expected


def test_version_and_checksum_are_in_the_metadata(builder):
    source = source_text.read()
    assert dict(builder.info.metadata) == {
        "python": platform.python_version(),
        "checksum": source.checksum,
        "files": len(source.files),
        "bytes": sum(map(len, source.files.values())),
    }
    assert platform.python_version() in str(builder.data_path)


def test_the_order_is_always_the_same(builder, prepare):
    paths = list(texts(builder, "validation"))
    assert list(texts(prepare(), "validation")) == paths


def test_a_changed_library_is_prepared_anew(builder, prepare, monkeypatch):
    changed = source_text.SourceText("3.0.0", {"a.py": b"a", "b.py": b"b"})
    split = {"train": {"a.py": b"a"}, "validation": {"b.py": b"b"}}
    for name, files in split.items():
        monkeypatch.setattr(source_text.SourceText, name, files)
    monkeypatch.setattr(source_text, "read", lambda: changed)
    other = prepare()
    assert texts(other, "train") == {"a.py": b"a"}
    assert Path(other.data_path).parent.name != (
        Path(builder.data_path).parent.name
    )
