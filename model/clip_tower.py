"""CLIP's image encoder as LLaVA and its descendants use it: the patches of an inner layer.

Radford et al. 2021 (arXiv 2103.00020) for the network, which is that of transformers; Liu et al. 2023,
"Visual Instruction Tuning" (arXiv 2304.08485), section 4.1, for the choice of the layer before the last one.
"""

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel


class ClipTower(nn.Module):
    """Frames to patch features.

    Args:
        config: of the image encoder; `openai/clip-vit-large-patch14` (224 pixels, 256 patches) for Chat-UniVi
            and VISA, `-336` (576 patches) for LLaVA-Phi-3 and VideoLISA.
        layer: which of the encoder's hidden states: 0 is the embeddings, -1 the last layer's, as in a list.
        chunk: frames per pass.

    The network is ``vision``, under transformers' names; the layers behind the chosen one are kept, so that
    published weights load strictly, but never run.

    Raises:
        ValueError: the encoder has no such layer.
    """

    def __init__(self, config: CLIPVisionConfig, layer: int = -2, chunk: int = 8):
        super().__init__()
        states = config.num_hidden_layers + 1
        if not -states <= layer < states:
            raise ValueError(
                f"a CLIP encoder of {config.num_hidden_layers} layers has no hidden state {layer}; "
                f"choose from {-states} to {states - 1}"
            )
        self.vision = CLIPVisionModel(config)
        self.depth = layer % states
        self.chunk = chunk

    @property
    def image_size(self) -> int:
        """S, the side of an input frame in pixels."""
        return self.vision.config.image_size

    @property
    def num_patches(self) -> int:
        """n, the patches of a frame."""
        return (self.image_size // self.vision.config.patch_size) ** 2

    @property
    def width(self) -> int:
        """C, the channels of a patch."""
        return self.vision.config.hidden_size

    def forward(self, images: Tensor) -> Tensor:
        """Patch features, row by row, without the class token.

        Args:
            images: float [T, 3, S, S], normalised as CLIP wants it.

        Returns:
            float [T, n, C] in the encoder's dtype.
        """
        return torch.cat([self._patches(part) for part in images.split(self.chunk)])

    def _patches(self, images: Tensor) -> Tensor:
        states = self.vision.pre_layrnorm(self.vision.embeddings(images))
        for layer in self.vision.encoder.layers[: self.depth]:
            states = layer(states, None)
        return states[:, 1:]
