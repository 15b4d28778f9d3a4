"""The code of the page on distribution runs on four devices."""

from tests.distribution.jax.programs import report_of


def test_the_code_of_the_page_splits_the_deep_levels():
    blocks, devices, split = report_of("code_of_page")
    assert blocks == 2
    assert devices == 4
    split = {path.removeprefix("sequential/") for path in split}
    assert {"tree/nodes_8", "tree/stamps_8", "tree/visits_low"} <= split
    assert "tree/nodes_7" not in split
