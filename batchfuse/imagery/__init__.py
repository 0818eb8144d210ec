"""Bytes in: sources as files, and how they come onto the grid of the reference."""
