"""What training exports is what `visa.load` runs: the same masks, from frames to frames."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

import visa
from model.clip_images import ClipImages
from model.sam.segmenter import SamSegmenter
from tests.tiny_engine import Run, changed, tiny_folder
from visa.checkpoints.loading import load_published, open_checkpoint
from visa.checkpoints.options import LoadOptions
from visa.conversations import PHI3_INSTRUCT, encode
from visa.question_wording import videolisa_question
from visa.training.engine.batch import TrainingBatch, TrainingVideo
from visa.training.engine.export import export
from visa.training.engine.moving_shapes import MovingShapesSettings, draw_scene
from visa.video import Video

QUESTION = "the red square"
# VideoLISA's frames of a video of 8: each four times, and of these 32 its four dense ones.
FRAMES, SHOWN, DENSE = 8, tuple(index // 4 for index in range(32)), (3, 10, 18, 26)


@torch.no_grad()
def test_a_loaded_export_draws_what_the_trainer_draws(tmp_path):
    """VideoLISA, whose masks need no tracker: question and frames through `visa.load` and through the
    trainer's validation."""
    folder = tiny_folder(tmp_path, "videolisa")
    settings = changed(model={"start": "tiny-videolisa"})
    run = Run(settings, folder, tmp_path / "run")
    # As if it had been trained for long: LoRA's second factor begins at zero.
    torch.manual_seed(1)
    for name, master in run.driver.masters.masters.items():
        master += torch.randn_like(master) * (0.5 if "lora_B" in name else 0.02)
    exported = export(settings, folder, run.driver.state(), tmp_path / "export")
    frames, _, _ = draw_scene(np.random.default_rng(0), MovingShapesSettings(frames=FRAMES))

    tracklet = visa.load(exported, device="cpu").segment(Video.from_frames(frames), QUESTION)

    start = run.start
    segmenter = SamSegmenter(start.model.visual_model)
    images, size = segmenter.preprocess(frames)
    side = start.model.visual_model.image_size
    images = functional.pad(images, (0, side - size[1], 0, side - size[0]))
    conversation = PHI3_INSTRUCT.write([(videolisa_question(QUESTION), "Sure, [SEG].")])
    video = TrainingVideo(
        name="clip",
        images_clip=ClipImages(start.model.tower.image_size)(frames),
        shown=SHOWN,
        conversations=(encode(conversation, start.tokenizer),),
        images_sam=images,
        drawn=tuple(range(FRAMES)),
        input_size=size,
        masks=torch.zeros(FRAMES, 1, *frames.shape[1:3], dtype=torch.bool),
        dense_indices=DENSE,
    )
    run.step.eval()
    (logits,) = run.driver.forward(TrainingBatch(0, (video,))).mask_logits
    expected = (logits > 0).numpy()
    assert 0.01 < expected.mean() < 0.99
    assert tracklet.masks.shape == expected.shape
    # Where the logit is all but zero, rounding decides.
    decided = (logits.abs() > 1e-3).numpy()
    assert decided.mean() > 0.95
    assert np.array_equal(tracklet.masks[decided], expected[decided])


def test_the_trained_weights_are_all_in_the_export(tmp_path):
    """Leaving out LoRA's product would be seen."""
    folder = tiny_folder(tmp_path, "visa")
    run = Run(changed(), folder, tmp_path / "run")
    name = "language.model.layers.0.self_attn.q_proj"
    before = run.model.get_submodule(name).base_layer.weight.detach().clone()
    with torch.no_grad():
        run.driver.masters.masters[f"{name}.lora_B.default.weight"].normal_()
    exported = export(run.settings, folder, run.driver.state(), tmp_path / "export")
    model = load_published(open_checkpoint(exported), LoadOptions(dtype="float32")).model
    first = run.driver.masters.masters[f"{name}.lora_A.default.weight"]
    second = run.driver.masters.masters[f"{name}.lora_B.default.weight"]
    merged = model.get_submodule(name).weight
    torch.testing.assert_close(merged.detach(), (before + 2 * second @ first).detach(), atol=1e-6, rtol=1e-6)
    assert not torch.allclose(merged, before, atol=1e-2)
