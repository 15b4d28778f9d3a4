"""The backend of PyTorch."""
