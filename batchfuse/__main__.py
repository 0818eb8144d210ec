"""``python -m batchfuse``."""

from batchfuse.cli import main

main()
