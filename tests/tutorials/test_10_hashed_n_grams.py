"""Tables of hashed n-grams train alone and with trees, and are drawn."""

import re

from tests.tutorials.running import smoke_run

NAME = "10_hashed_n_grams"
# For orders 2, 3 and 4 two hashes of 12 bits, in rows of 64 numbers.
TABLES = 3 * 2 * 2**12 * 64
# 16 trees with a root and 64 leaves of 4 x 64, and a bias.
TREES = 16 * 65 * 4 * 64 + 64
# Bytes, a layer over eight of them, two normalizations, and the outputs.
OTHERS = 257 * 16 + 129 * 64 + 2 * 2 * 64 + 65 * 256


def test_it_trains_and_tells_the_costs(tmp_path_factory):
    output, folder = smoke_run(NAME, tmp_path_factory)
    ((count, read, bits),) = re.findall(
        r"^tables and trees +([\d,]+) +([\d,]+) +(\d\.\d+) +\d+\.\d$",
        output,
        re.M,
    )
    assert int(count.replace(",", "")) == TABLES + TREES + OTHERS
    assert int(read.replace(",", "")) == 3 * 2 * 64 + 2 * 64 * 64
    assert 2 < float(bits) < 9
    picture = (folder / "hashed_n_grams.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
