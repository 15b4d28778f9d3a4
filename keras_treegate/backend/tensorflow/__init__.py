"""The backend of TensorFlow."""
