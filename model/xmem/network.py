"""The XMem network: key encoder, value encoder and decoder (Cheng & Schwing, ECCV 2022, figure 2).

Everything about the frame alone (``encode_key``) is apart from everything about the objects, so that one
frame's features serve every object, every question and both directions in time.

Shapes: B batch, N objects, C channels, H W pixels (multiples of 16), h w the grid at stride 16.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.xmem.blocks import FeatureFusion, SensoryReinforcer, SensoryUpdater, UpsampleBlock
from model.xmem.contests import aggregate, sum_of_others
from model.xmem.resnet import BasicBlock, Norm, ResNetKeyTrunk, residual_stage


@dataclass(frozen=True)
class FrameKey:
    """What is known of a frame before any object is looked for.

    Attributes:
        key: float [B, key_dim, h, w].
        shrinkage: float [B, 1, h, w], at least 1.
        selection: float [B, key_dim, h, w] in [0, 1].
        f16, f8, f4: the trunk's maps at strides 16, 8 and 4, float [B, C_i, ...].
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    f16: Tensor
    f8: Tensor
    f4: Tensor


class FrameParts:
    """What the decoder makes of a frame's maps before it knows any object: two fifths of its work on one.

    Each is made when it is first needed, and serves whoever segments this frame after that.
    """

    def __init__(self, decoder: "Decoder", frame: FrameKey) -> None:
        self._decoder, self._frame = decoder, frame

    def fusion(self, num_objects: int) -> tuple[Tensor, Tensor] | Tensor:
        """The frame's part of the fusion at stride 16, two float [B, C, h, w]; for one object its map."""
        return self._fusion if num_objects > 1 else self._frame.f16

    @cached_property
    def _fusion(self) -> tuple[Tensor, Tensor]:
        return self._decoder.fuser.frame_part(self._frame.f16)

    @cached_property
    def skip8(self) -> Tensor:
        """What the first upsampling block adds, float [B, C, ...] at stride 8."""
        return self._decoder.up_16_8.skip_conv(self._frame.f8)

    @cached_property
    def skip4(self) -> Tensor:
        """What the second one adds, at stride 4."""
        return self._decoder.up_8_4.skip_conv(self._frame.f4)


class KeyProjection(nn.Module):
    """Key, shrinkage and selection from the deepest map (XMem section 3.3)."""

    def __init__(self, in_channels: int, key_dim: int):
        super().__init__()
        self.key_proj = nn.Conv2d(in_channels, key_dim, 3, padding=1)
        self.d_proj = nn.Conv2d(in_channels, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(in_channels, key_dim, 3, padding=1)

    def forward(self, f16: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float [B, C, h, w] -> key, shrinkage [B, 1, h, w], selection."""
        return self.key_proj(f16), self.d_proj(f16).square() + 1, self.e_proj(f16).sigmoid()


class ValueEncoder(nn.Module):
    """Image and mask of one object to its memory value; on deep updates also to its sensory state."""

    def __init__(
        self,
        frame_channels: int,
        value_dim: int,
        hidden_dim: int,
        stem: int = 64,
        widths: tuple[int, int, int] = (64, 128, 256),
        depths: tuple[int, int, int] = (2, 2, 2),
        norm: Norm = nn.BatchNorm2d,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(5, stem, 7, 2, 3, bias=False)
        self.bn1 = norm(stem)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = residual_stage(BasicBlock, stem, widths[0], depths[0], 1, norm)
        self.layer2 = residual_stage(BasicBlock, widths[0], widths[1], depths[1], 2, norm)
        self.layer3 = residual_stage(BasicBlock, widths[1], widths[2], depths[2], 2, norm)
        self.fuser = FeatureFusion(frame_channels, widths[2], value_dim)
        self.hidden_reinforce = SensoryReinforcer(value_dim, hidden_dim) if hidden_dim else None

    def forward(
        self, image: Tensor, f16: Tensor, sensory: Tensor, masks: Tensor, others: Tensor, deep_update: bool
    ) -> tuple[Tensor, Tensor]:
        """See ``XMem.encode_value``; ``others`` is float [B, N, H, W]."""
        shape = masks.shape[:2]
        shared = image.unsqueeze(1).expand(-1, shape[1], -1, -1, -1)
        stacked = torch.cat([shared, masks.unsqueeze(2), others.unsqueeze(2)], 2).flatten(0, 1)
        value = self.fuser(f16, self.trunk(stacked.to(self.conv1.weight.dtype)))
        if deep_update and self.hidden_reinforce is not None:
            sensory = self.hidden_reinforce(value, sensory.flatten(0, 1)).unflatten(0, shape)
        return value.unflatten(0, shape), sensory

    def trunk(self, stacked: Tensor) -> Tensor:
        """Image, mask and other masks, float [B, 5, H, W] -> float [B, C, h, w]."""
        features = self.relu(self.maxpool(self.bn1(self.conv1(stacked))))
        return self.layer3(self.layer2(self.layer1(features)))


class Decoder(nn.Module):
    """Memory read-out and sensory state to mask logits, through strides 16, 8 and 4."""

    def __init__(
        self,
        frame_channels: tuple[int, int, int],
        value_dim: int,
        hidden_dim: int,
        widths: tuple[int, int, int] = (512, 256, 256),
        update_width: int = 256,
    ):
        super().__init__()
        self.fuser = FeatureFusion(frame_channels[0], value_dim + hidden_dim, widths[0])
        update_channels = (widths[0], widths[1], widths[2] + 1)
        self.hidden_update = SensoryUpdater(update_channels, update_width, hidden_dim) if hidden_dim else None
        self.up_16_8 = UpsampleBlock(frame_channels[1], widths[0], widths[1])
        self.up_8_4 = UpsampleBlock(frame_channels[2], widths[1], widths[2])
        self.pred = nn.Conv2d(widths[2], 1, 3, padding=1)

    def forward(
        self, frame: FrameKey | FrameParts, readout: Tensor, sensory: Tensor, update_sensory: bool
    ) -> tuple[Tensor, Tensor]:
        """Returns mask_logits per object at full size, float32 [B, N, H, W], and the sensory state."""
        shape = readout.shape[:2]
        parts = FrameParts(self, frame) if isinstance(frame, FrameKey) else frame
        readout, state = readout.flatten(0, 1), sensory.flatten(0, 1)
        g16 = self.fuser(parts.fusion(shape[1]), torch.cat([readout, state.to(readout.dtype)], 1))
        g8 = self.up_16_8(parts.skip8, g16)
        g4 = self.up_8_4(parts.skip4, g8)
        mask_logits = self.pred(functional.relu(g4))
        if update_sensory and self.hidden_update is not None:
            state = self.hidden_update(g16, g8, g4, mask_logits, state)
            sensory = state.unflatten(0, shape)
        mask_logits = functional.interpolate(
            mask_logits.float(), scale_factor=4, mode="bilinear", align_corners=False
        )
        return mask_logits.squeeze(1).unflatten(0, shape), sensory


class XMem(nn.Module):
    """The network. Defaults are the published model; every width is an argument and any key trunk fits.

    Args:
        key_dim, value_dim, hidden_dim: channels of keys, values and sensory memory (0: no sensory memory).
        trunk: network with an attribute ``channels`` (at strides 16, 8, 4) and maps in that order as its
            result.
            None: ResNet-50. Its input is whatever ``encode_key`` is given.
        value_stem, value_widths, value_depths, norm: the value encoder's trunk.
        decoder_widths: channels of the decoder at strides 16, 8, 4.
        update_width: inner channels of the decoder's sensory update.
    """

    def __init__(
        self,
        key_dim: int = 64,
        value_dim: int = 512,
        hidden_dim: int = 64,
        trunk: nn.Module | None = None,
        value_stem: int = 64,
        value_widths: tuple[int, int, int] = (64, 128, 256),
        value_depths: tuple[int, int, int] = (2, 2, 2),
        norm: Norm = nn.BatchNorm2d,
        decoder_widths: tuple[int, int, int] = (512, 256, 256),
        update_width: int = 256,
    ):
        super().__init__()
        if min(key_dim, value_dim) < 1 or hidden_dim < 0:
            raise ValueError(
                "key_dim and value_dim must be at least 1 and hidden_dim at least 0, "
                f"got {key_dim}, {value_dim}, {hidden_dim}"
            )
        self.key_dim, self.value_dim, self.hidden_dim = key_dim, value_dim, hidden_dim
        self.key_encoder = ResNetKeyTrunk() if trunk is None else trunk
        channels = tuple(self.key_encoder.channels)
        self.value_encoder = ValueEncoder(
            channels[0], value_dim, hidden_dim, value_stem, value_widths, value_depths, norm
        )
        self.key_proj = KeyProjection(channels[0], key_dim)
        self.decoder = Decoder(channels, value_dim, hidden_dim, decoder_widths, update_width)
        # Set where the key encoder computes in another dtype than what takes its maps.
        self.map_dtype: torch.dtype | None = None

    def encode_key(self, frame: Tensor | tuple[Tensor, ...]) -> FrameKey:
        """Features of frames alone.

        Args:
            frame: what the trunk takes; for the published trunk float [B, 3, H, W], ImageNet-normalised.
        """
        maps = self.key_encoder(frame)
        key, shrinkage, selection = self.key_proj(maps[0])
        if self.map_dtype is not None:
            maps = [each.to(self.map_dtype) for each in maps]
        return FrameKey(key, shrinkage, selection, *maps)

    def frame_parts(self, frame: FrameKey) -> FrameParts:
        """What ``segment`` needs of a frame, for when it is segmented more than once."""
        return FrameParts(self.decoder, frame)

    def encode_value(
        self,
        image: Tensor,
        f16: Tensor,
        sensory: Tensor,
        mask_probs: Tensor,
        deep_update: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """What memory keeps of each object.

        Args:
            image: float [B, 3, H, W], ImageNet-normalised.
            f16: the frame's map at stride 16.
            sensory: float [B, N, hidden_dim, h, w].
            mask_probs: float [B, N, H, W] in [0, 1], aggregated, without the background.
            deep_update: also renew the sensory state.

        Returns:
            value, float [B, N, value_dim, h, w], and the sensory state (unchanged without ``deep_update``).
        """
        others = sum_of_others(mask_probs)
        return self.value_encoder(image, f16, sensory, mask_probs, others, deep_update)

    def segment(
        self,
        frame: FrameKey | FrameParts,
        readout: Tensor,
        sensory: Tensor,
        update_sensory: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Masks of the objects from what memory says of them.

        Args:
            frame: features of the frame, or what ``frame_parts`` made of them.
            readout: float [B, N, value_dim, h, w].
            sensory: float [B, N, hidden_dim, h, w].
            update_sensory: also renew the sensory state.

        Returns:
            mask_logits and mask_probs, float32 [B, 1 + N, H, W], the background first; and the sensory state.
        """
        object_logits, sensory = self.decoder(frame, readout, sensory, update_sensory)
        mask_logits, mask_probs = aggregate(object_logits.float().sigmoid())
        return mask_logits, mask_probs, sensory
