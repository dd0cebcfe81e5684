"""A model folder, the runtime that its format needs, and the score of a picture."""
