"""Image files as PyTorch's DataLoader wants them; its processes import this and little else."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset


class Files(Dataset):
    """The images of a folder, decoded one by one, with labels that alternate."""

    def __init__(self, folder: Path):
        self._paths = sorted(folder.iterdir())

    def __len__(self) -> int:
        """How many files."""
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        """An image [h, w, c] and its label."""
        with Image.open(self._paths[number]) as image:
            return torch.from_numpy(np.array(image)), number % 2
