"""The output folder of inference.py: what is in its way, a full disk, other runs' answers, cut-outs."""

from __future__ import annotations

import errno
from pathlib import Path

import av
import numpy as np
from PIL import Image

import visa
from tests import folder_films
from tests.folder_films import by_name, errors_in, summary_of
from tests.synthetic_clips import write_clip
from visa.commands import inference
from visa.tracklet import Tracklet

full_fake = folder_films.full_fake
fake = folder_films.fake
films = folder_films.films
run = folder_films.run


def test_a_file_where_a_videos_folder_belongs_costs_that_video_only(
    films, run, fake, tmp_path, capsys
) -> None:
    write_clip(films / "a.mp4", 2)
    write_clip(films / "b.mp4", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("in the way")
    assert run(["the dog"]) == 1
    assert "File exists" in by_name(tmp_path / "out")["a"]["error"]
    assert len(by_name(tmp_path / "out")["b"]["results"]) == 1
    assert len(errors_in(capsys)) == 1


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(
    films, run, fake, tmp_path, capsys, monkeypatch
) -> None:
    for name in ("a", "b", "c"):
        write_clip(films / f"{name}.mp4", 2)
    save = Tracklet.save

    def full(self: Tracklet, folder: Path) -> Path:
        if (self.video.name, self.question) == ("b", "the cat"):
            (folder / "00000.png").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(self, folder)

    monkeypatch.setattr(Tracklet, "save", full)
    assert run(["the dog", "the cat"]) == 1
    (line,) = errors_in(capsys)
    assert "stopped: " in line
    assert "No space left on device; what is done is kept" in line
    assert len(fake.asked) == 4
    output = tmp_path / "out"
    assert summary_of(output)["done"] is False
    assert not (output / "b" / "1").exists()
    assert not list(output.rglob(".*"))
    monkeypatch.setattr(Tracklet, "save", save)
    fake.asked.clear()
    assert run(["the dog", "the cat"]) == 0
    assert fake.asked == [("b", "the cat"), ("c", "the dog"), ("c", "the cat")]


def test_an_output_holds_one_models_answers(films, run, fake, tmp_path, capsys) -> None:
    write_clip(films / "a.mp4", 2)
    assert run(["the dog"]) == 0
    assert run(["the dog"], "--model", "other") == 2
    assert "holds predictions of model 'embedded' and not 'other'" in errors_in(capsys)[-1]
    assert run(["the dog"], "--cutout") == 2


def test_the_output_may_lie_in_the_folder(films, run, fake, tmp_path) -> None:
    (films / "walk").mkdir()
    Image.new("RGB", (16, 16)).save(films / "walk" / "0.png")
    for _ in range(2):
        assert run(["the dog"], output=films / "out") == 0
    assert fake.asked == [("walk", "the dog")]
    assert run(["the dog"], output=films) == 0
    assert run(["the dog"], output=films) == 0
    assert fake.asked == [("walk", "the dog")] * 2


def test_the_cut_out_is_the_object_and_nothing_else(films, run, full_fake, tmp_path) -> None:
    write_clip(films / "a.mp4", 4, height=63, width=95, pixel_format="yuv444p")
    assert run(["the dog", "the bus"], "--cutout") == 0
    folder = tmp_path / "out" / "a" / "0"
    with Image.open(folder / "cutout.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (63, 95, 4)
    assert (pixels[:, :47, 3] == 255).all()
    assert not pixels[:, 47:].any()
    with av.open(str(folder / "cutout.webm")) as container:
        # libavcodec's own VP9 decoder leaves the alpha channel out
        stream = container.streams.video[0]
        assert stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1"
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        packets = [packet for packet in container.demux(stream) if packet.size]
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + list(decoder.decode(None))
    assert len(frames) == 4
    alpha = frames[2].to_ndarray(format="rgba")[..., 3]
    assert alpha[:63, :44].min() > 200
    assert alpha[:63, 52:].max() < 50
    assert not (tmp_path / "out" / "a" / "1" / "cutout.png").exists()


def test_one_video_can_be_cut_out_too(films, tmp_path, monkeypatch) -> None:
    from tests.test_inference_command import FakeSegmenter

    monkeypatch.setitem(vars(visa), "load", lambda name: FakeSegmenter())
    clip = write_clip(films / "a.mp4", 2)
    arguments = ["--video", str(clip), "--query", "the dog", "--output", str(tmp_path / "out"), "--cutout"]
    assert inference.main(arguments) == 0
    assert (tmp_path / "out" / "a" / "0" / "cutout.webm").is_file()
