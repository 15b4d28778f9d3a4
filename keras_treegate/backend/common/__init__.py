"""Parts that the backends share."""
