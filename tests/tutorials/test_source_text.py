"""The benchmark's bytes are the library's files, whole and always the same."""

import hashlib
import json
import platform
from pathlib import Path

import pytest

from tutorials.tfds_builders import source_text


@pytest.fixture
def library(tmp_path):
    """Returns a library of three files, among others that do not count."""
    files = {
        "abc.py": b"x = 1\n",
        "json/decoder.py": b"\xff not text\n",
        "zoo/a b.py": b"",
        "test/test_abc.py": b"no",
        "unittest/test/test_abc.py": b"no",
        "site-packages/abc.py": b"no",
        "__pycache__/abc.py": b"no",
        "_sysconfigdata__linux.py": b"no",
        "abc.txt": b"no",
    }
    for path, content in files.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path


def test_the_files_are_read_in_the_order_of_their_paths(library):
    source = source_text.read(library)
    assert source.python == platform.python_version()
    assert list(source.files.items()) == [
        ("abc.py", b"x = 1\n"),
        ("json/decoder.py", b"\xff not text\n"),
        ("zoo/a b.py", b""),
    ]


def test_the_checksum_tells_every_change(library):
    checksums = {source_text.read(library).checksum}
    assert checksums == {source_text.read(library).checksum}
    (library / "abc.py").write_bytes(b"x = 2\n")
    checksums.add(source_text.read(library).checksum)
    (library / "abc.py").rename(library / "abd.py")
    checksums.add(source_text.read(library).checksum)
    (library / "zoo" / "a b.py").unlink()
    checksums.add(source_text.read(library).checksum)
    assert len(checksums) == 4


def test_every_file_is_in_one_split():
    source = source_text.read()
    assert source.train.keys().isdisjoint(source.validation)
    assert source.train | source.validation == source.files
    assert 0.05 < len(source.validation) / len(source.files) < 0.2
    assert (
        source.files["json/decoder.py"]
        == Path(json.decoder.__file__).read_bytes()
    )


def test_the_path_alone_decides_the_split():
    paths = [f"file_{number}.py" for number in range(1000)]
    source = source_text.SourceText("3", dict.fromkeys(paths, b""))
    expected = [
        path
        for path in paths
        if int(hashlib.sha256(path.encode()).hexdigest()[:8], 16) / 2**32 < 0.1
    ]
    assert list(source.validation) == expected
    assert list(source.train) == [p for p in paths if p not in expected]


def test_texts_are_the_files_one_after_the_other():
    source = source_text.read()
    training, validation = source.texts
    assert training.dtype == validation.dtype == "uint8"
    assert training.tobytes() == b"".join(source.train.values())
    assert 0 < len(validation) < len(training) / 3
