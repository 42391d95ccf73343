"""SteerSeg with one SAM 2 as segmenter and tracker: every frame is encoded once, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.sam2 import Sam2Network, Sam2Segmenter
from model.steering.rollout import RolloutSettings
from tests.steerseg_fakes import ColourBackbone, settings, squares
from tests.tiny_sam2 import tiny_video_model
from visa.reasoning.steerseg import SteerSegReasoner
from visa.sam2_propagation import Sam2Propagator
from visa.sampling import Keyframes
from visa.segmenter import Segmenter
from visa.steerseg.attention import Looking
from visa.tracked_frames import ClipFeatures
from visa.viewing import Viewing

NUM_FRAMES, KEYFRAMES = 5, 3


class CountedNetwork(Sam2Network):
    """Counts the images that it encodes."""

    encoded = 0

    def encode(self, images):
        self.encoded += len(images)
        return super().encode(images)


@pytest.fixture(scope="module")
def model():
    """Whose objects never leave, so that there is something to carry."""
    made = tiny_video_model()
    made.mask_decoder.pred_obj_score_head.proj_out.bias += 50
    return made


pytestmark = pytest.mark.usefixtures("one_thread")


def clip():
    path = [(2 + 4 * k, 4) for k in range(NUM_FRAMES)]
    return squares({"red": path, "green": [(72 - x, y + 36) for x, y in path]})[0]


def system(segments: Sam2Network, tracks: Sam2Network) -> Segmenter:
    tracker = Sam2Propagator(tracks)
    reasoner = SteerSegReasoner(
        "tiny", Looking(ColourBackbone(), RolloutSettings()), Sam2Segmenter(segments), tracker,
        settings(ranking={"absent_below": None}),
    )  # fmt: skip
    return Segmenter(reasoner, tracker, Keyframes(KEYFRAMES))


def test_one_network_encodes_every_frame_once_and_draws_what_two_draw(model) -> None:
    video, questions = clip(), ["the red square", "the green square"]
    one = CountedNetwork(model)
    shared = system(one, one).segment_many(video, questions)
    assert one.encoded == NUM_FRAMES

    segments, tracks = CountedNetwork(model), CountedNetwork(model)
    apart = system(segments, tracks).segment_many(video, questions)
    assert tracks.encoded == NUM_FRAMES
    assert 0 < segments.encoded <= KEYFRAMES

    for mine, other in zip(shared, apart, strict=True):
        assert mine.found
        assert other.found
        assert np.array_equal(mine.masks, other.masks)
        assert 0 < mine.masks.mean() < 1
        assert (mine.score, mine.target_frame) == (other.score, other.target_frame)


def test_shared_features_are_the_segmenters_bit_by_bit(model) -> None:
    video, network = clip(), Sam2Network(model)
    sam = Sam2Segmenter(network)
    together = Viewing(video, list, sam, Sam2Propagator(network))
    alone = Viewing(video, list, sam, None)
    for index in (3, 0, 3):
        with torch.inference_mode():
            ours, theirs = together.sam_features(index), alone.sam_features(index)
        assert torch.equal(ours.embedding, theirs.embedding)
        assert all(torch.equal(a, b) for a, b in zip(ours.levels, theirs.levels, strict=True))
        assert (ours.input_size, ours.original_size) == (theirs.input_size, theirs.original_size)
        assert ours is together.tracker_features[index].features


def test_a_keyframe_stays_encoded_when_the_tracker_forgets_it(model) -> None:
    """Of a long clip the tracker keeps what fits into its memory; keyframes are asked for again."""
    video, network = clip(), CountedNetwork(model)
    viewing = Viewing(video, list, Sam2Segmenter(network), Sam2Propagator(network))
    features = viewing.tracker_features
    viewing.tracker_features = ClipFeatures(video, features.encoder, cache_bytes=0)
    for _ in range(2):
        for index in (0, 2, 4):
            with torch.inference_mode():
                viewing.sam_features(index)
    assert network.encoded == 3
