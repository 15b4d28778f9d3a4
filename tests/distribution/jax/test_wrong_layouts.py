"""Layouts that do not fit a variable of a table raise, and say which."""

from tests.distribution.jax.programs import report_of

VARIABLES = {
    "nodes": "tree_gated_dense/nodes_0",
    "stamps": "tree_gated_dense_1/stamps_0",
    "visits": "tree_gated_dense_2/visits_low",
    "embeddings": "sparse_embedding/embeddings",
    "last_step": "tree_gated_dense_3_clock_0_last_step",
}


def test_the_error_names_the_variable_and_what_to_do():
    errors = report_of("wrong_layouts")
    for case, variable in VARIABLES.items():
        error = errors[case]
        assert error.startswith(
            f"ValueError: The layout of `{variable}` must fit its shape"
        ), case
        assert "Received: shape=(" in error
        assert "Use `keras_treegate.distribution.layout_map`" in error
    # The layers of Keras raise as they did.
    assert "keras_treegate" not in errors["kernel"]
