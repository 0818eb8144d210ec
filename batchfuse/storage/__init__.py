"""Bytes out: the stores of fused images, and files exported from them. The only door to Zarr."""
