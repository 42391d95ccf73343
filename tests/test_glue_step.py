"""One training step: which losses come of which examples, and that it trains what inference then does."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from model.prompt import EmbeddingPrompt, MaskPrompt
from tests.tiny_training import TAUGHT, tiny_example, tiny_sam, tiny_trainable
from visa.training.examples import TaughtTurn
from visa.training.glue_step import LossWeights, glue_losses, weighted

WORDS = {"text", "refusal", "presence", "look"}
HEAT = {"heat_bce", "heat_dice", "object_choice", "cell_choice"}
MASK = {"mask_bce", "mask_dice"}


@pytest.fixture(scope="module")
def mllm():
    return tiny_trainable()


@pytest.fixture(scope="module")
def sam():
    return tiny_sam()


def test_every_part_of_the_objective_is_there(mllm, sam):
    losses = glue_losses(mllm, [tiny_example()], sam)
    assert losses.keys() == WORDS | HEAT | MASK
    assert all(loss.shape == () and torch.isfinite(loss) and loss > 0 for loss in losses.values())
    assert set(vars(LossWeights())) == losses.keys() | {"meaning"}, "lessons come from elsewhere"


def test_without_sam_or_without_a_picture_no_mask_is_drawn(mllm, sam):
    assert glue_losses(mllm, [tiny_example()]).keys() == WORDS | HEAT
    faked = replace(tiny_example(), input_size=None, object_masks=torch.rand(2, 9, 15))
    assert glue_losses(mllm, [faked], sam).keys() == WORDS | HEAT


def test_refusals_teach_words_alone(mllm, sam):
    refusals = tiny_example(turns=TAUGHT[2:])
    assert glue_losses(mllm, [refusals], sam).keys() == WORDS
    both = glue_losses(mllm, [refusals, tiny_example()])
    assert both["heat_bce"].item() == pytest.approx(
        glue_losses(mllm, [tiny_example()])["heat_bce"].item(), rel=1e-4
    )


def test_a_claim_teaches_coldness_and_no_words(mllm, sam):
    """Its answer may say anything: only the heat it causes counts, and that should be nowhere."""
    absent = TAUGHT[2]
    claims = [TaughtTurn(absent.question, answer, (), claimed=True) for answer in (TAUGHT[0].answer, "[SEG]")]
    plain = glue_losses(mllm, [tiny_example(turns=(absent,))], sam)
    claimed = [glue_losses(mllm, [tiny_example(turns=(absent, claim))], sam) for claim in claims]
    for losses in claimed:
        assert losses.keys() == WORDS | {"heat_bce"}
        for name in ("text", "refusal", "presence"):
            assert losses[name].item() == pytest.approx(plain[name].item(), rel=1e-4), name
    assert claimed[0]["heat_bce"].item() != pytest.approx(claimed[1]["heat_bce"].item(), rel=1e-4)


def test_examples_of_a_batch_do_not_disturb_each_other(mllm):
    """Neither their neighbours nor their padding has a say in what they teach."""
    short = tiny_example(1, TAUGHT[:1], num_frames=1)
    examples = [short, tiny_example(2, num_frames=3), tiny_example(3, TAUGHT[1:])]
    together = glue_losses(mllm, examples)
    alone = [glue_losses(mllm, [example]) for example in examples]
    for name in HEAT:
        mean = sum(losses[name].item() for losses in alone) / 3
        assert together[name].item() == pytest.approx(mean, rel=1e-4), name


def test_the_order_of_turns_does_not_matter(mllm):
    forwards = glue_losses(mllm, [tiny_example()])
    backwards = glue_losses(mllm, [tiny_example(turns=TAUGHT[::-1])])
    for name, loss in forwards.items():
        assert loss.item() == pytest.approx(backwards[name].item(), rel=1e-4), name


def test_each_turn_is_taught_its_own_object(mllm):
    """A wrong object index in the answer's place must cost something else."""
    swapped = (replace(TAUGHT[0], meant=(1,)), replace(TAUGHT[1], meant=(0,)), TAUGHT[2])
    right, wrong = glue_losses(mllm, [tiny_example()]), glue_losses(mllm, [tiny_example(turns=swapped)])
    assert right["text"].item() == pytest.approx(wrong["text"].item(), rel=1e-6)
    for name in HEAT:
        assert abs(right[name].item() - wrong[name].item()) > 1e-5, name


def test_what_is_drawn_is_limited_and_asked_as_inference_asks(mllm):
    asked = []

    def decode(features, prompts, **options):
        asked.append((features, prompts))
        count = prompts[0].embeddings.shape[0]
        return SimpleNamespace(mask_logits=torch.zeros(count, 1, 256, 256))

    example = tiny_example()
    fake = SimpleNamespace(decode=decode)
    losses = glue_losses(mllm, [example], fake, masks_per_example=1)
    ((features, (embedding, mask)),) = asked
    assert isinstance(embedding, EmbeddingPrompt)
    assert isinstance(mask, MaskPrompt)
    assert embedding.embeddings.shape == (1, 1, 256)
    assert mask.mask_logits.shape == (1, 1, 256, 256)
    assert torch.equal(features.embedding[0], example.sam_features)
    assert features.input_size == (144, 240)
    assert losses["mask_bce"].item() == pytest.approx(0.6931, abs=1e-3), "logits of zero cost log 2"
    glue_losses(mllm, [example], fake, masks_per_example=5)
    assert asked[1][1][0].embeddings.shape[0] == 2


def test_training_grounds_as_inference_does():
    """The generated answer's heat and prompt embedding equal the teacher-forced ones."""
    mllm = tiny_trainable(3)
    with torch.no_grad():  # adapters that do something
        for name, parameter in mllm.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    example, taught = tiny_example(4), []
    hook = mllm.head.register_forward_hook(lambda module, inputs, out: taught.append(out))
    with torch.no_grad():
        glue_losses(mllm, [example])
    hook.remove()
    grounding = taught[0]

    reading = mllm.read(example.frames, example.percents)
    for number, turn in enumerate(TAUGHT[:2]):
        script = [*mllm.packer.answer_ids(turn.answer), mllm.packer.end_id]

        def logits(states, script=script):
            return (
                torch.nn.functional.one_hot(torch.tensor(script.pop(0)), mllm.seg_token_id + 1).float() * 99
            )

        mllm.logits = logits
        answer = mllm.answer(reading, turn.question)
        assert (answer.text, answer.found) == (turn.answer, True)
        said = mllm.ground(reading, answer, example.sam_features)
        assert torch.allclose(said.heat_logits[0], grounding.heat_logits[number], atol=1e-4)
        assert torch.allclose(said.embeddings[0], grounding.embeddings[number], atol=1e-4)
        assert grounding.heat_logits.std() > 1e-2, "a flat heat map would hide a difference"


@pytest.mark.parametrize("turn", TAUGHT, ids=lambda turn: turn.question)
def test_training_refuses_as_inference_does(turn):
    """The taught probability of finding or refusing is the one by which an answer is begun."""
    mllm = tiny_trainable(5)
    example = tiny_example(6, (TAUGHT[1], turn))
    with torch.no_grad():
        mllm.head.presence_gain.fill_(2.0)
        mllm.head.presence_bias.fill_(-9.5)
        both, other = (
            glue_losses(mllm, [replace(example, turns=turns)]) for turns in (example.turns, TAUGHT[1:2])
        )
    taught = torch.exp(-(2 * both["refusal"] - other["refusal"])).item()
    found = mllm.answer(
        mllm.read(example.frames, example.percents), turn.question, max_new_tokens=1
    ).found_prob
    assert taught == pytest.approx(found if turn.meant else 1 - found, abs=1e-4)
    assert 1e-3 < found < 1 - 1e-3, f"{found}: a certain answer would hide a difference"


def test_gradients_reach_all_that_is_trained_and_nothing_else(sam):
    mllm = tiny_trainable()
    weighted(glue_losses(mllm, [tiny_example()], sam), LossWeights()).backward()
    without = {name for name, value in mllm.named_parameters() if value.requires_grad and value.grad is None}
    assert not without
    touched = {name for name, value in mllm.named_parameters() if value.grad is not None}
    assert all(name.startswith(("projector.", "head.", "seg_")) or "lora_" in name for name in touched)
    assert any("lora_B" in name and mllm.get_parameter(name).grad.any() for name in touched)
    assert all(value.grad is None for value in sam.sam.image_encoder.parameters())
    assert sam.sam.mask_decoder.output_upscaling[0].weight.grad.any()
    sam.sam.zero_grad(set_to_none=True)


def test_weights_count():
    losses = {"text": torch.tensor(2.0), "mask_bce": torch.tensor(3.0)}
    assert weighted(losses, LossWeights()).item() == 1.0 * 2 + 2.0 * 3
    assert weighted(losses, LossWeights(text=0.5, mask_bce=0)).item() == 1.0
