"""Small leaf modules that several stages share."""
