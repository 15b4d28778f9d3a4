"""Running means and baselines of four devices are those of one."""

from tests.distribution.jax.programs import report_of


def test_means_are_of_the_examples_of_all_devices():
    report = report_of("joint_statistics", "data", "rows")
    assert report.keys() == {"data", "rows"}
    assert max(report.values()) < 1e-6
