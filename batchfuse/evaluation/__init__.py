"""Fused images measured against their sources: the figures' 8-bit images, the rows beside them, tables."""
