"""One step of training the embedded glue: examples in, losses out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from model.mllm.layout import TurnSpan
from model.mllm.mllm import MLLM
from model.mllm.packing import IGNORE_INDEX, PackedBatch, collate
from model.prompt import EmbeddingPrompt
from model.sam.segmenter import FrameFeatures, SamSegmenter
from visa.mask_drawing import heat_to_mask_prompt
from visa.training.embedded_settings import LossWeights
from visa.training.examples import Example, TaughtTurn
from visa.training.objective import cell_choice, mask_bce, mask_dice, object_choice, text_loss


def glue_losses(
    mllm: MLLM, examples: Sequence[Example], sam: SamSegmenter | None = None, masks_per_example: int = 3
) -> dict[str, torch.Tensor]:
    """Losses of a batch of examples, by name (see `LossWeights`), unweighted.

    Args:
        sam: draws masks too, through its decoder; None leaves the mask losses out.
        masks_per_example: turns of each example that are drawn.
    """
    return losses_of(mllm, read_examples(mllm, examples), sam, masks_per_example)


@dataclass(frozen=True)
class ReadExamples:
    """Examples that the language model has read.

    batch: B packed sequences of L tokens. hidden: float [B, L, D].
    projected: the target frame's cells and class words of each.
    """

    examples: Sequence[Example]
    batch: PackedBatch
    hidden: torch.Tensor
    projected: Sequence[tuple[torch.Tensor, torch.Tensor]]


def read_examples(mllm: MLLM, examples: Sequence[Example]) -> ReadExamples:
    """Put examples with their answers through the language model, teacher-forced."""
    examples = [example.to(mllm.device) for example in examples]
    sequences, visual, projected = [], [], []
    for example in examples:
        slots = mllm.slots([cells.colour.shape[:2] for cells in example.frames], example.percents)
        tokens, cells, words = mllm.visual_tokens(example.frames, slots, example.words)
        visual.append(tokens)
        projected.append((cells, words))
        packed = mllm.packer.pack(slots, [(turn.question, turn.answer) for turn in example.turns])
        for turn, span in zip(example.turns, packed.layout.turns, strict=True):
            if turn.claimed:
                packed.labels[slice(*span.answer)] = IGNORE_INDEX
        sequences.append(packed)
    batch = collate(sequences).to(mllm.device)
    return ReadExamples(examples, batch, mllm(batch, visual), projected)


def losses_of(
    mllm: MLLM, read: ReadExamples, sam: SamSegmenter | None, masks_per_example: int
) -> dict[str, torch.Tensor]:
    """See `glue_losses`."""
    examples, batch, hidden, projected = read.examples, read.batch, read.hidden, read.projected
    losses = _spoken_losses(mllm, batch, hidden, projected, examples)
    losses |= {name: [] for name in ("heat_bce", "heat_dice", "object_choice", "cell_choice")}
    losses |= {"mask_bce": [], "mask_dice": []}
    for index, example in enumerate(examples):
        found = [k for k, turn in enumerate(example.turns) if turn.meant or turn.claimed]
        if not found:
            continue
        layout, states = batch.layouts[index], hidden[index].float()
        cells, words = projected[index]
        span = layout.target
        keys = mllm.head.keys(
            states[span.start : span.stop].unflatten(0, (span.rows, span.cols)),
            cells,
            words,
            example.sam_features,
        )
        seg_positions = [layout.seg_states(k, "predicting")[0] for k in found]
        word_means = torch.stack(
            [
                _word_mean(mllm, batch.ids[index], layout.turns[k], seg_positions[n])
                for n, k in enumerate(found)
            ]
        )
        grounding = mllm.head(states[seg_positions], word_means, keys)
        heat = grounding.heat_logits
        on_grid = example.masks_on_grid()
        meant = meant_objects([example.turns[k] for k in found], len(on_grid)).to(mllm.device)
        target = torch.einsum("nk,khw->nhw", meant.float(), on_grid).clamp(max=1)
        losses["heat_bce"].append(mask_bce(heat, target, positive_weight=4.0))
        there = meant.any(1).nonzero()[:, 0]
        if not len(there):
            continue
        losses["heat_dice"].append(mask_dice(heat[there], target[there]))
        losses["object_choice"].append(object_choice(heat, on_grid, meant))
        losses["cell_choice"].append(cell_choice(heat[there], target[there]))
        if sam is not None and example.input_size is not None:
            some = there[torch.randperm(len(there))[:masks_per_example]]
            bce, dice = _drawn_losses(sam, example, grounding, meant, some)
            losses["mask_bce"].append(bce)
            losses["mask_dice"].append(dice)
    return {name: torch.stack(values).mean() for name, values in losses.items() if values}


def _spoken_losses(
    mllm: MLLM, batch: PackedBatch, hidden: torch.Tensor, projected, examples: Sequence[Example]
) -> dict[str, list[torch.Tensor]]:
    """Losses of what is said, of refusing or not, which the first token decides, and of the look before it.

    The look is the heat that the question alone causes: it must lie on what is meant, and be nowhere when
    nothing is; without that its maximum is a poor witness of presence.
    """
    labels = batch.labels[:, 1:]
    spoken = labels != IGNORE_INDEX
    presence = torch.zeros(labels.shape, device=hidden.device)
    opening = torch.zeros_like(spoken)
    looks = []
    for index, (cells, words) in enumerate(projected):
        layout, states = batch.layouts[index], hidden[index].float()
        span = layout.target
        grid = states[span.start : span.stop].unflatten(0, (span.rows, span.cols))
        keys = mllm.head.keys(grid, cells.float(), words)
        ends = [turn.answer[0] - 1 for turn in layout.turns]
        means = torch.stack(
            [mllm.embed(batch.ids[index, slice(*turn.question)]).float().mean(0) for turn in layout.turns]
        )
        heat = mllm.head.heat_logits(states[ends], means, keys)
        presence[index, ends] = mllm.head.presence_of(heat).float()
        opening[index, ends] = True
        objects = functional.adaptive_avg_pool2d(examples[index].masks_on_grid(), keys.shape[:2])
        meant = meant_objects(examples[index].turns, len(objects)).to(hidden.device)
        target = torch.einsum("nk,khw->nhw", meant.float(), objects).clamp(max=1)
        looks.append(mask_bce(heat, target, positive_weight=4.0) + object_choice(heat, objects, meant))
    logits = mllm.opening_logits(mllm.logits(hidden[:, :-1][spoken]), presence[spoken])
    spoken_labels, first = labels[spoken], opening[spoken]
    refusal_log_probs = logits[first].log_softmax(-1)[:, mllm.refusal_id]
    refused = (spoken_labels[first] == mllm.refusal_id).float()
    found_log_probs = torch.log1p(-refusal_log_probs.exp().clamp(max=1 - 1e-6))
    refusal = -(refused * refusal_log_probs + (1 - refused) * found_log_probs).mean()
    # The look must be able to decide alone: the LM's own opinion counts for little once it is in use.
    alone = functional.binary_cross_entropy_with_logits(presence[spoken][first], 1 - refused)
    return {
        "text": [text_loss(logits, spoken_labels)],
        "refusal": [refusal],
        "presence": [alone],
        "look": looks,
    }


def meant_objects(turns: Sequence[TaughtTurn], num_objects: int) -> torch.Tensor:
    """Which of the K objects each of the N turns means: bool [N, K]."""
    meant = torch.zeros(len(turns), num_objects, dtype=torch.bool)
    for row, turn in zip(meant, turns, strict=True):
        row[list(turn.meant)] = True
    return meant


def _word_mean(mllm: MLLM, ids: torch.Tensor, turn: TurnSpan, seg_state: int) -> torch.Tensor:
    """Mean word embedding of a turn's question and of its answer up to [SEG], as `MLLM.answer` takes it."""
    words = torch.cat([ids[slice(*turn.question)], ids[turn.answer[0] : seg_state + 1]])
    return mllm.embed(words).float().mean(0)


def _drawn_losses(sam: SamSegmenter, example: Example, grounding, meant: torch.Tensor, some: torch.Tensor):
    """BCE and Dice of the masks SAM draws, on its 256-pixel output without the padding."""
    rows, cols = example.sam_features.shape[-2:]
    features = FrameFeatures(example.sam_features[None], (), example.input_size, example.input_size)
    prompts = [EmbeddingPrompt(grounding.embeddings[some])]
    prompts.append(heat_to_mask_prompt(grounding.heat_logits[some]))
    logits = sam.decode(features, prompts).mask_logits[:, 0, : 4 * rows, : 4 * cols]
    target = torch.einsum("nk,khw->nhw", meant[some].float(), example.object_masks.float()).clamp(max=1)
    target = target[:, : 4 * rows, : 4 * cols]
    return mask_bce(logits.float(), target), mask_dice(logits.float(), target)


def weighted(losses: dict[str, torch.Tensor], weights: LossWeights) -> torch.Tensor:
    """The scalar to minimise."""
    return sum(getattr(weights, name) * value for name, value in losses.items())
