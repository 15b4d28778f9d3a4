"""Arithmetic on shapes and rows, decay, checks of arguments, and saving."""
