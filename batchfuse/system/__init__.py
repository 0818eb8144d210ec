"""What this machine is to us: its files, streams and words. No image, no recipe."""
