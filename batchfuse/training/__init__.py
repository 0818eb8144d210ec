"""Weights from photographs: the network learns to give an image back; nothing is fused here."""
