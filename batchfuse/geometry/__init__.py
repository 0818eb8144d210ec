"""Integers and affines: windows, tiles and grids. No file and no pixel is touched here."""
