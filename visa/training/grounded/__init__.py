"""Training [SEG] systems on backbones of transformers: LoRA, the [SEG] token and head, SAM's mask decoder."""
