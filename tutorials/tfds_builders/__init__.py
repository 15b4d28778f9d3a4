"""TensorFlow Datasets builders that the tutorials share."""
