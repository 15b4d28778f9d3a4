"""Layers that the package is compared with."""
