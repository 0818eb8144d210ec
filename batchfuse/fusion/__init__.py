"""Images fused by a network: tensors, which know no file, no grid and no tile.

``methods``, ``parameters``, ``shipped``, the surveys, ``layers``, ``fuser``, ``arrays`` and ``color`` import
no torch, so that a plan, a recipe check and ``--help`` are quick; ``load_fuser`` opens the door to it.
"""
