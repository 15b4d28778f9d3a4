"""The backend of JAX."""
