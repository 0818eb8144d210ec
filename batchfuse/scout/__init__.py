"""Looks at folders that nobody has described, and sketches a recipe for them."""
