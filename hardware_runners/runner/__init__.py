"""One benchmark job on one device: its inventory entry, the way there, the measurement and the row that comes back."""
