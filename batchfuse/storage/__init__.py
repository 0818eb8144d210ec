"""Bytes out: the stores of fused images. The only door to Zarr."""
