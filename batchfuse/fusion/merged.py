"""What a rule makes of the features of the sources."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Merged"]


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """Features to decode, and what is done to the decoded image: image * factor + offset."""

    features: Tensor
    """(1, 64, y, x)."""
    factor: Tensor | float = 1.0
    """A number, or (1, 1, y, x)."""
    offset: Tensor | float = 0.0
    """A number, or (1, 1, y, x); in the sources' scaled range."""

    def at(self, rows: slice, columns: slice) -> Merged:
        """The same of a window."""
        factor, offset = (
            part[:, :, rows, columns] if isinstance(part, Tensor) else part
            for part in (self.factor, self.offset)
        )
        last = self.features.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        # convolutions on a CPU want features without gaps in memory
        features = self.features[:, :, rows, columns].contiguous(memory_format=layout)
        return Merged(features, factor, offset)

    def finished(self, image: Tensor) -> Tensor:
        """The fused image of the decoded one, (1, 1, y, x)."""
        if isinstance(self.factor, Tensor) or self.factor != 1:
            image = image * self.factor
        if isinstance(self.offset, Tensor) or self.offset != 0:
            image = image + self.offset
        return image
