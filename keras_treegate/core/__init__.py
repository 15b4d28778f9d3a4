"""What the floors above share: rows, decay, checks of arguments, saving."""
