"""XMem against numbers of the reference implementation (golden folder ``xmem``; see its cases.json).

Three kinds of case are told apart by what they hold: single modules (no ``config``), both directions from a
middle frame (``runs``), and a video step by step (all others).
"""

from __future__ import annotations

import importlib.util
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from model.xmem import Memory, MemoryConfig, XMem, XMemTracker, aggregate, load_xmem
from model.xmem import memory as memory_module
from model.xmem.framing import normalise, resize_images, resize_masks, working_size
from model.xmem.similarity import anisotropic_similarity, top_k_affinity

OWN = Path(__file__).parent / "golden"
FLOAT32_TOLERANCE = 2e-5
FLOAT16_TOLERANCE = 3e-4
SUMMARY_TOLERANCE = 2e-4


def _cases(config: pytest.Config) -> dict[str, dict]:
    path = config.getoption("--golden") / "xmem" / "cases.json"
    return json.loads(path.read_text())["cases"] if path.is_file() else {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kinds = {
        "module_case": lambda case: "config" not in case,
        "both_ways_case": lambda case: "runs" in case,
        "video_case": lambda case: "config" in case and "runs" not in case,
    }
    for argument, fits in kinds.items():
        if argument in metafunc.fixturenames:
            cases = {name: case for name, case in _cases(metafunc.config).items() if fits(case)}
            metafunc.parametrize(argument, list(cases.values()), ids=list(cases))


class GoldenFolder:
    """The arrays and the two generators that lie beside them."""

    def __init__(self, root: Path):
        self.folder = root / "xmem"
        self.fill = self._load("fill", root, self.folder, OWN).fill
        self.make_video = self._load("frames", self.folder, OWN / "xmem").make_video
        state = XMem().state_dict()
        self.weights = self.fill(state)

    @staticmethod
    def _load(name: str, *folders: Path):
        path = next(folder / f"{name}.py" for folder in folders if (folder / f"{name}.py").is_file())
        spec = importlib.util.spec_from_file_location(f"golden_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def arrays(self, case: dict) -> dict[str, np.ndarray]:
        with np.load(self.folder / case["file"]) as stored:
            return dict(stored)

    def network(self, case: dict) -> XMem:
        weights = dict(self.weights)
        for tweak in case.get("weight_tweak") or []:
            tensor = weights[tweak["key"]] + tweak.get("add", 0.0)
            channels = (slice(None), slice(tweak["input_channels_from"], None)) if tensor.ndim > 1 else ...
            tensor[channels] *= tweak.get("multiply", 1.0)
            weights[tweak["key"]] = tensor
        return load_xmem(weights)

    def video(self, case: dict) -> tuple[torch.Tensor, np.ndarray]:
        asked = case["video"]
        frames, labels = self.make_video(
            asked["seed"], asked["frames"], asked["height"], asked["width"], asked["objects"]
        )
        assert zlib.crc32(frames.tobytes()) == asked["crc32_frames"]
        assert zlib.crc32(labels.tobytes()) == asked["crc32_labels"]
        return normalise(torch.from_numpy(frames)), labels


@pytest.fixture(scope="module")
def golden(golden_root: Path) -> GoldenFolder:
    return GoldenFolder(golden_root)


def config_of(case: dict) -> MemoryConfig:
    known = set(MemoryConfig.__dataclass_fields__)
    return MemoryConfig(**{name: value for name, value in case["config"].items() if name in known})


def assert_close(actual: torch.Tensor, stored: np.ndarray, tolerance: float, what: str) -> None:
    expected = torch.from_numpy(np.asarray(stored)).float()
    assert actual.shape == expected.shape, what
    exists = ~expected.isnan()
    difference = (actual.float() - expected)[exists].abs().max().item()
    assert difference <= tolerance, f"{what}: off by {difference:.2e}"


def test_key_list_golden(golden_root: Path, golden: GoldenFolder) -> None:
    path = golden_root / "xmem" / "keys.json"
    listed = json.loads((path if path.is_file() else OWN / "xmem" / "keys.json").read_text())
    expected = {entry["name"]: (entry["shape"], entry["dtype"]) for entry in listed["keys"]}
    state = XMem().state_dict()
    actual = {
        key: (list(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for key, tensor in state.items()
    }
    assert actual == expected
    assert sum(parameter.numel() for parameter in XMem().parameters()) == listed["parameters"]
    for key, checksum in listed["filled_crc32"].items():
        assert zlib.crc32(golden.weights[key].numpy().tobytes()) == checksum


@torch.inference_mode()
def test_modules_golden(module_case: dict, golden: GoldenFolder) -> None:
    stored = golden.arrays(module_case)
    network = golden.network(module_case)
    images, labels = golden.video(module_case)
    seen: set[str] = set()

    def check(name: str, actual: torch.Tensor, tolerance: float = FLOAT32_TOLERANCE) -> None:
        scale = max(1.0, float(np.abs(stored[name]).max()))
        assert_close(actual, stored[name], tolerance * scale, name)
        seen.add(name)

    check("image", images[0])
    keys = [network.encode_key(image[None]) for image in images]
    for name in ("key", "shrinkage", "selection", "f16", "f8", "f4"):
        check(f"enc_{name}", getattr(keys[0], name)[0])

    num_objects = module_case["video"]["objects"]
    masks = torch.from_numpy(np.stack([labels[0] == k + 1 for k in range(num_objects)])).float()
    hard = aggregate(masks[None])[1]
    check("agg_mask_prob", hard[0])
    soft_in = torch.from_numpy(
        np.random.default_rng(77).random(stored["agg_soft_in"].shape, dtype=np.float32)
    )
    check("agg_soft_in", soft_in)
    soft_logits, soft_probs = aggregate(soft_in[None])
    check("agg_soft_logits", soft_logits[0])
    check("agg_soft_prob", soft_probs[0])

    rows, columns = keys[0].key.shape[-2:]
    sensory = torch.zeros(1, num_objects, network.hidden_dim, rows, columns)
    deep, after_deep = network.encode_value(images[:1], keys[0].f16, sensory, hard[:, 1:])
    check("value_deep", deep[0])
    check("hidden_after_deep", after_deep[0])
    same, unchanged = network.encode_value(images[:1], keys[0].f16, sensory, hard[:, 1:], deep_update=False)
    assert torch.equal(same, deep)
    assert torch.equal(unchanged, sensory)
    noise = np.random.default_rng(78).random(tuple(masks.shape), dtype=np.float32)
    soft_masks = aggregate(torch.from_numpy(noise)[None])[1][:, 1:]
    soft, after_soft = network.encode_value(images[1:2], keys[1].f16, after_deep, soft_masks)
    check("value_soft", soft[0, :, : stored["value_soft"].shape[1]])
    check("hidden_after_soft", after_soft[0])

    def flat(maps: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([each[0].flatten(1).T for each in maps])

    memory_key, shrinkage = (
        flat([key.key for key in keys[:2]]),
        flat([key.shrinkage for key in keys[:2]])[:, 0],
    )
    query, selection = flat([keys[2].key]), flat([keys[2].selection])
    scores = anisotropic_similarity(memory_key, shrinkage, query, selection)
    check("similarity", scores.T)
    check("similarity_no_selection", anisotropic_similarity(memory_key, shrinkage, query, None).T)
    affinity = top_k_affinity(scores, 30)
    check("affinity_top30", affinity.dense().T)
    check("usage_top30", affinity.usage())
    check("affinity_dense", top_k_affinity(scores, None).dense().T)
    values = torch.cat([value[0].flatten(2).permute(2, 0, 1) for value in (deep, soft)])
    readout = affinity.read(values.flatten(1)).unflatten(1, values.shape[1:]).permute(1, 2, 0)
    readout = readout.unflatten(-1, (rows, columns))
    check("readout", readout)

    raw, _ = network.decoder(keys[2], readout[None], after_soft, True)
    check("dec_raw_logits", raw[0])
    logits, probs, updated = network.segment(keys[2], readout[None], after_soft)
    check("seg_logits", logits[0])
    check("seg_prob", probs[0])
    check("seg_hidden", updated[0])

    tokens = memory_module.Tokens.fresh(
        memory_key,
        shrinkage,
        flat([key.selection for key in keys[:2]]),
        [values],
        [torch.ones(len(values), dtype=torch.bool)],
    )
    tokens.use, tokens.life = affinity.usage(), torch.ones_like(tokens.life)
    prototypes, chosen = memory_module.consolidate(tokens, len(stored["cons_prototype_index"]))
    check("cons_prototype_index", chosen, 0)
    check("cons_key", prototypes.key.T)
    check("cons_value64", prototypes.values[0].permute(1, 2, 0)[:, : stored["cons_value64"].shape[1]])
    check("cons_shrinkage", prototypes.shrinkage[None])
    assert seen == set(stored)


class Recorder:
    """Writes down what memory does, in the form of ``events`` in cases.json."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.events: list[dict] = []
        read, consolidate, prune = Memory.read, memory_module.consolidate, memory_module.prune

        def recorded_read(memory: Memory, *arguments: torch.Tensor) -> torch.Tensor:
            readout = read(memory, *arguments)
            size = len(memory.working) + (0 if memory.long_term is None else len(memory.long_term))
            self.events.append(
                {
                    "kind": "read",
                    "memory": size,
                    "readout_mean": readout.mean().item(),
                    "readout_abs_mean": readout.abs().mean().item(),
                    "readout_obj_abs_mean": readout[0].abs().mean((1, 2, 3)).tolist(),
                }
            )
            return readout

        def recorded_consolidate(candidates, num_prototypes):
            prototypes, chosen = consolidate(candidates, num_prototypes)
            usage = candidates.usage.sort(descending=True).values
            self.events.append(
                {
                    "kind": "consolidate",
                    "candidates": len(candidates),
                    "nonzero_usage": int((candidates.usage > 0).sum()),
                    "prototypes": sorted(chosen.tolist()),
                    "usage_last_kept": usage[len(chosen) - 1].item(),
                    "shrinkage_mean": prototypes.shrinkage.mean().item(),
                    "value_mean": prototypes.values[0].mean().item(),
                    "value_abs_mean": prototypes.values[0].abs().mean().item(),
                }
            )
            return prototypes, chosen

        def recorded_prune(tokens, target):
            kept = prune(tokens, target)
            survivors = [int((tokens.key == key).all(1).nonzero()[0, 0]) for key in kept.key]
            self.events.append(
                {
                    "kind": "prune",
                    "size_before": len(tokens),
                    "max_size": target,
                    "size_after": len(kept),
                    "survivors": survivors,
                }
            )
            return kept

        monkeypatch.setattr(Memory, "read", recorded_read)
        monkeypatch.setattr(memory_module, "consolidate", recorded_consolidate)
        monkeypatch.setattr(memory_module, "prune", recorded_prune)

    def check(self, expected: list[dict]) -> None:
        assert [event["kind"] for event in self.events] == [event["kind"] for event in expected]
        for event, wanted in zip(self.events, expected, strict=True):
            for name in event.keys() & wanted.keys():
                assert event[name] == pytest.approx(wanted[name], abs=SUMMARY_TOLERANCE), (
                    wanted["kind"],
                    name,
                )


def test_video_golden(video_case: dict, golden: GoldenFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = golden.arrays(video_case)
    images, labels = golden.video(video_case)
    tracker = XMemTracker(golden.network(video_case), config_of(video_case))
    recorder = Recorder(monkeypatch)
    objects: list[int] = []
    predicted: list[torch.Tensor] = []
    for t, image in enumerate(images):
        masks, given = None, None
        if str(t) in video_case["masks"]:
            entering = video_case["masks"][str(t)]["new_labels"]
            objects += [label for label in entering if label not in objects]
            given = [objects.index(label) for label in entering]
            masks = torch.zeros(len(objects), *image.shape[1:])
            for row in given:
                masks[row] = torch.from_numpy(labels[t] == objects[row])
        end = video_case["end_flag_on_last_frame"] and t == len(images) - 1
        predicted.append(tracker.step(image, masks, given=given, end=end))
        memory, summary = tracker.memory, video_case["per_frame"][t]
        assert len(memory.working) == summary["work"]
        assert (0 if memory.long_term is None else len(memory.long_term)) == summary["long"]
        assert predicted[t].mean((1, 2)).tolist() == pytest.approx(
            summary["channel_means"], abs=FLOAT32_TOLERANCE
        )
        sensory = [memory.sensory.mean().item(), memory.sensory.std(correction=0).item()]
        assert sensory == pytest.approx(summary["hidden_mean_std"], abs=SUMMARY_TOLERANCE)
    recorder.check(video_case["events"])
    _check_probabilities(predicted, stored, video_case["ranges"]["argmax_near_ties_below_1e4"])
    _check_memory(tracker.memory, stored)


def _check_probabilities(
    predicted: list[torch.Tensor], stored: dict[str, np.ndarray], near_ties: int
) -> None:
    channels = stored["argmax_bits"].shape[1] + 1
    whole = torch.full((len(predicted), channels, *predicted[0].shape[1:]), torch.nan)
    for t, probs in enumerate(predicted):
        whole[t, : len(probs)] = probs
    frames = stored.get("prob_frames", np.arange(len(predicted)))
    assert_close(whole[frames], stored["prob"], FLOAT32_TOLERANCE, "prob")
    if "prob_f16" in stored:
        assert_close(whole, stored["prob_f16"], FLOAT16_TOLERANCE, "prob_f16")
    winner = whole.nan_to_num(-1).argmax(1).numpy()
    bits = np.stack([winner == k for k in range(1, channels)], 1).reshape(len(predicted), channels - 1, -1)
    flipped = np.unpackbits(np.packbits(bits, axis=-1) ^ stored["argmax_bits"]).sum()
    assert flipped <= 2 * near_ties


def _check_memory(memory: Memory, stored: dict[str, np.ndarray]) -> None:
    seen = {"prob", "prob_f16", "prob_frames", "argmax_bits"}

    def check(name: str, actual: torch.Tensor) -> None:
        if name in stored:
            scale = max(1.0, float(np.abs(stored[name]).max()))
            assert_close(actual, stored[name], FLOAT32_TOLERANCE * scale, name)
            seen.add(name)

    check("end_hidden", memory.sensory[0])
    for part, tokens in (("work", memory.working), ("long", memory.long_term)):
        if tokens is None:
            continue
        check(f"end_{part}_key", tokens.key.T)
        check(f"end_{part}_shrinkage", tokens.shrinkage)
        if tokens.selection is not None:
            check(f"end_{part}_selection_mean", tokens.selection.mean(1))
        check(f"end_{part}_use", tokens.use)
        check(f"end_{part}_life", tokens.life)
        for group, (value, valid) in enumerate(zip(tokens.values, tokens.valid, strict=True)):
            names = [f"end_{part}_value8_group{group}"] + ([f"end_{part}_value8"] if group == 0 else [])
            for name in names:
                check(name, value[valid].permute(1, 2, 0)[:, :8])
    assert seen >= set(stored)


def test_both_ways_golden(both_ways_case: dict, golden: GoldenFolder) -> None:
    stored = golden.arrays(both_ways_case)
    images, labels = golden.video(both_ways_case)
    start = both_ways_case["mask_frame"]
    original_size = tuple(images.shape[-2:])
    size = working_size(*original_size, both_ways_case["size"])
    assert size == tuple(both_ways_case["model_size"])
    images = resize_images(images, size)
    masks = resize_masks(torch.from_numpy(labels[start] == 1)[None], size)
    assert_close(images[start], stored["first_image"], FLOAT32_TOLERANCE, "first_image")
    assert np.array_equal(np.packbits(masks[0].numpy() > 0), stored["first_mask_resized_bits"])
    network = golden.network(both_ways_case)
    for direction, run in both_ways_case["runs"].items():
        assert run["order"] == stored[f"{direction}_order"].tolist()
        tracker = XMemTracker(network, config_of(both_ways_case))
        whole = {}
        for t, end in zip(run["order"], run["ends"], strict=True):
            whole[t] = tracker.step(images[t], masks if t == start else None, end=end)
        kept = stored[f"{direction}_prob_model_size_frames"].tolist()
        at_model_size = torch.stack([whole[t] for t in kept])
        assert_close(at_model_size, stored[f"{direction}_prob_model_size"], FLOAT32_TOLERANCE, direction)
        final = resize_images(torch.stack([whole[t] for t in run["order"]]), original_size)
        assert_close(final[:, 1], stored[f"{direction}_fg_prob_out_f16"], FLOAT16_TOLERANCE, direction)
        winner = final.argmax(1).numpy() == 1
        bits = np.packbits(winner.reshape(len(winner), -1), axis=-1)
        flipped = np.unpackbits(bits ^ stored[f"{direction}_label255_bits"], axis=-1).sum(1)
        assert (flipped <= stored[f"{direction}_near_ties"]).all()
        assert winner.sum((1, 2)) == pytest.approx(
            run["fg_pixels"], abs=int(stored[f"{direction}_near_ties"].max())
        )
