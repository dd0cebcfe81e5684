"""Small leaf modules that every stage shares."""
