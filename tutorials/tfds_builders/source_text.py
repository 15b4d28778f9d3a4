"""The Python standard library's own source text: data that is always there."""

import hashlib
import platform
import sysconfig
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Not the library's own text, or not the same on every installation.
SKIPPED = {
    *("site-packages", "dist-packages", "__pycache__", "lib-dynload"),
    *("test", "tests", "idle_test"),
}
SKIPPED_PREFIXES = ("config-", "_sysconfigdata", "sitecustomize")
VALIDATION_SHARE = 0.1


class SourceText(NamedTuple):
    """Files by path, of one Python version.

    python: e.g. "3.11.7".
    files: the bytes of each file, by its path with forward slashes, in the
        order of the paths.
    """

    python: str
    files: dict[str, bytes]

    @property
    def checksum(self) -> str:
        """SHA-256 of all paths and contents, in hexadecimal."""
        digest = hashlib.sha256()
        for path, content in self.files.items():
            digest.update(path.encode() + b"\0")
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    @property
    def train(self) -> dict[str, bytes]:
        """The files to train on, about nine in ten."""
        return {p: c for p, c in self.files.items() if not _is_validation(p)}

    @property
    def validation(self) -> dict[str, bytes]:
        """The other files: a path decides, so a new file moves no other."""
        return {p: c for p, c in self.files.items() if _is_validation(p)}

    @property
    def texts(self) -> tuple[np.ndarray, np.ndarray]:
        """The bytes to train on, and the others, each as one text, uint8."""
        train, validation = (
            np.frombuffer(b"".join(files.values()), "uint8")
            for files in (self.train, self.validation)
        )
        return train, validation


def read(folder: Path | None = None) -> SourceText:
    """Returns the source text of the running Python, or of another folder."""
    root = Path(folder or sysconfig.get_path("stdlib"))
    files = {}
    for file in root.rglob("*.py"):
        path = file.relative_to(root)
        if not _is_skipped(path):
            files[path.as_posix()] = file.read_bytes()
    return SourceText(platform.python_version(), dict(sorted(files.items())))


def _is_skipped(path: Path) -> bool:
    return any(
        part in SKIPPED or part.startswith(SKIPPED_PREFIXES)
        for part in path.parts
    )


def _is_validation(path: str) -> bool:
    digest = hashlib.sha256(path.encode()).digest()
    return int.from_bytes(digest[:4], "big") < VALIDATION_SHARE * 2**32
