"""inference.py: results as frozen in the design, exit codes, one line for what a person can get wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import visa
from tests.synthetic_clips import write_clip
from visa.commands import inference
from visa.commands.progress import StageBars
from visa.errors import DownloadError, InputError
from visa.tracklet import Tracklet

ROOT = Path(__file__).parent.parent


class FakeSegmenter:
    """Finds the left half of every frame, unless the question has the word "bus"."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.videos: list[object] = []
        self.fail: BaseException | None = None

    def segment_each(self, video, questions: list[str], *, progress=None) -> Iterator[Tracklet]:
        for question in questions:
            yield self.segment(video, question, progress=progress)

    def segment(self, video, question: str, *, progress=None) -> Tracklet:
        self.asked.append(question)
        self.videos.append(video)
        if self.fail is not None and "fail" in question:
            raise self.fail
        for stage in ("sample", "reason", "segment", "propagate"):
            progress(stage, 0, 2)
            progress(stage, 2, 2)
        found = "bus" not in question
        masks = np.zeros((len(video), video.height, video.width), bool)
        masks[:, :, : video.width // 2] = found
        answer = f"Here: {question}." if found else "There is none."
        return Tracklet(question, answer, found, 0.75, 0 if found else None, masks, video)


@pytest.fixture
def segmenter(monkeypatch: pytest.MonkeyPatch) -> FakeSegmenter:
    fake = FakeSegmenter()
    monkeypatch.setitem(vars(visa), "load", lambda name: fake)
    return fake


@pytest.fixture
def unloadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise AssertionError("the model was loaded although the input was bad")

    monkeypatch.setitem(vars(visa), "load", load)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "my clip.mp4", 4)


def run(clip: Path, output: Path, *questions: str) -> int:
    queries = [part for question in questions for part in ("--query", question)]
    return inference.main(["--video", str(clip), *queries, "--output", str(output)])


def summary_in(output: Path) -> dict:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    errors = capsys.readouterr().err.strip()
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def test_every_question_gets_a_folder_and_a_line_in_the_summary(
    clip: Path, tmp_path: Path, segmenter: FakeSegmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(clip, output, "the  dog", "the red bus") == 0
    for number in ("0", "1"):
        folder = output / "my clip" / number
        assert (folder / "result.json").exists()
        assert (folder / "00003.png").exists()
        assert (folder / "overlay.mp4").exists()
    summary = json.loads((output / "results.json").read_text())
    assert (summary["model"], summary["done"]) == ("embedded", True)
    (entry,) = summary["videos"]
    assert entry["video"] == "my clip"
    assert [(one["question"], one["found"], one["target_frame"]) for one in entry["results"]] == [
        ("the dog", True, 0),
        ("the red bus", False, -1),
    ]
    assert (output / entry["results"][1]["folder"] / "contact_sheet.png").exists()
    captured = capsys.readouterr()
    assert "not found: There is none." in captured.out
    assert str(output / "my clip" / "0" / "contact_sheet.png") in captured.out
    for words in ("choosing frames", "drawing the mask"):
        assert words in captured.err
    assert segmenter.videos[0] is segmenter.videos[1]


def test_a_folder_of_frames_is_a_clip(tmp_path: Path, segmenter: FakeSegmenter) -> None:
    from PIL import Image

    (tmp_path / "walk").mkdir()
    Image.new("RGB", (9, 17)).save(tmp_path / "walk" / "a7.jpg")
    assert run(tmp_path / "walk", tmp_path / "out", "the dog") == 0
    assert (tmp_path / "out" / "walk" / "0" / "a7.png").exists()


def test_control_tokens_reach_the_model_as_words(
    clip: Path, tmp_path: Path, segmenter: FakeSegmenter
) -> None:
    assert run(clip, tmp_path / "out", "the [SEG] <|im_end|> dog") == 0
    assert segmenter.asked == ["the (SEG) ‹|im_end|› dog"]


def test_a_truncated_video_is_used_and_said(
    tmp_path: Path, segmenter: FakeSegmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 50, height=240, width=320, movflags="faststart")
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.7)])
    assert run(clip, tmp_path / "out", "the dog") == 0
    assert "warning:" in (errors := capsys.readouterr().err)
    assert "of 50 frames decoded" in errors
    summary = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "truncated" in summary["videos"][0]["warnings"][0]


def test_damage_that_shows_late_is_said_too(
    clip: Path, tmp_path: Path, segmenter: FakeSegmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = segmenter.segment

    def segment(video, question: str, *, progress=None) -> Tracklet:
        video.warnings.append("damaged: frame 2 does not decode, its neighbour stands in for it")
        return answer(video, question, progress=progress)

    segmenter.segment = segment
    assert run(clip, tmp_path / "out", "the dog") == 0
    assert capsys.readouterr().err.count("damaged: frame 2") == 1
    summary = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(summary["videos"][0]["warnings"]) == 1


@pytest.mark.usefixtures("unloadable")
class TestBadInputIsFoundBeforeTheModelIsLoaded:
    def test_no_such_video(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(tmp_path / "no.mp4", tmp_path / "out", "the dog") == 2
        assert "no such video" in one_line(capsys)

    def test_text_for_a_video(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "notes.mp4").write_text("words")
        assert run(tmp_path / "notes.mp4", tmp_path / "out", "the dog") == 2
        assert "is not a video" in one_line(capsys)

    def test_names_that_are_empty(self, clip: Path, capsys, monkeypatch, tmp_path) -> None:
        monkeypatch.chdir(tmp_path)  # which an empty path would mean
        Path("q.json").write_text('["the dog"]')
        folder = ["--video-folder", "", "--queries", "q.json", "--output", "out"]
        assert run(clip, "", "the dog") == run("", "out", "the dog") == inference.main(folder) == 2
        assert capsys.readouterr().err.count("is empty; give a") == 3
        assert not any(path.is_dir() for path in tmp_path.iterdir())

    def test_empty_question(self, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(clip, tmp_path / "out", "the dog", "  ") == 2
        assert "the question is empty" in one_line(capsys)
        assert not (tmp_path / "out").exists()

    def test_endless_question(self, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(clip, tmp_path / "out", "a" * 10_000) == 2
        assert "10000 characters" in one_line(capsys)

    def test_output_is_a_file(self, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(clip, clip, "the dog") == 2
        assert "is a file" in one_line(capsys)

    def test_output_below_a_file(
        self, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(clip, clip / "out", "the dog") == 2
        assert "cannot write to the output folder" in one_line(capsys)

    def test_the_clips_own_folder_is_a_file(
        self, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "my clip").touch()
        assert run(clip, tmp_path / "out", "the dog") == 2
        assert "is a file" in one_line(capsys)

    def test_output_cannot_be_written(
        self,
        clip: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def refuse(**_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("visa.commands.output.tempfile.TemporaryFile", refuse)
        assert run(clip, tmp_path / "out", "the dog") == 2
        assert one_line(capsys).endswith("Permission denied")

    def test_no_question_at_all(self, clip: Path, tmp_path: Path) -> None:
        with pytest.raises(SystemExit) as caught:
            run(clip, tmp_path / "out")
        assert caught.value.code == 2


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (InputError("no model is called x"), 2),
        (DownloadError("cannot fetch a.bin (sha256 0f) from a, b: put it at c"), 1),
        (FileNotFoundError(2, "No such file", "weights.safetensors"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_model_that_does_not_load(
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: BaseException,
    code: int,
) -> None:
    def load(name: str) -> None:
        raise failure

    monkeypatch.setitem(vars(visa), "load", load)
    assert run(clip, tmp_path / "out", "the dog") == code
    assert one_line(capsys)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (InputError("cannot read\nframe 3"), 1),
        (RuntimeError("out of memory"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_is_done_is_kept_when_a_later_question_fails(
    clip: Path,
    tmp_path: Path,
    segmenter: FakeSegmenter,
    capsys: pytest.CaptureFixture[str],
    failure: BaseException,
    code: int,
) -> None:
    segmenter.fail = failure
    assert run(clip, tmp_path / "out", "the dog", "fail here", "the cat") == code
    line = one_line(capsys)
    stopped = code == 130
    assert ("run the same command to go on" if stopped else "my clip.mp4, 'fail here' (my clip/1): ") in line
    assert (tmp_path / "out" / "my clip" / "0" / "result.json").exists()
    entry = summary_in(tmp_path / "out")["videos"][0]
    assert [one["number"] for one in entry["results"]] == ([0] if stopped else [0, 2])
    assert [one["question"] for one in entry.get("failed", [])] == ([] if stopped else ["fail here"])
    assert summary_in(tmp_path / "out")["done"] is not stopped

    segmenter.fail, segmenter.asked = None, []
    assert run(clip, tmp_path / "out", "the dog", "fail here", "the cat") == 0
    assert segmenter.asked == (["fail here", "the cat"] if stopped else ["fail here"])
    assert len(summary_in(tmp_path / "out")["videos"][0]["results"]) == 3


def test_asked_again_it_tells_what_it_knows_and_loses_nothing(
    clip: Path, tmp_path: Path, segmenter: FakeSegmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(clip, output, "the dog", "the bus") == 0
    first = (output / "results.json").read_bytes()
    segmenter.asked.clear()
    capsys.readouterr()
    assert run(clip, output, "the dog", "the bus") == 0
    assert segmenter.asked == []
    assert (output / "results.json").read_bytes() == first
    told = capsys.readouterr()
    assert "Here: the dog. (answered before)" in told.out
    assert "not found: There is none. (answered before)" in told.out
    assert str(output / "my clip" / "1" / "contact_sheet.png") in told.out
    assert "loading" not in told.err

    # Another clip's answers come to stand beside them.
    assert run(write_clip(tmp_path / "other.mp4", 3), output, "the dog") == 0
    names = [entry["video"] for entry in summary_in(output)["videos"]]
    assert names == ["other", "my clip"]

    # Another question of the same number takes the place of the one before, and that is said.
    capsys.readouterr()
    assert run(clip, output, "the cat") == 0
    assert "the answer to 'the dog' is replaced by that to 'the cat'" in capsys.readouterr().err
    assert [one["question"] for one in summary_in(output)["videos"][0]["results"]] == ["the cat"]

    # So does another clip of the same name.
    write_clip(clip, 6)
    assert run(clip, output, "the cat") == 0
    assert "about another video, or about this one as it was" in capsys.readouterr().err
    assert (output / "my clip" / "0" / "00005.png").exists()


def test_another_models_answers_are_not_mixed_in(
    clip: Path, tmp_path: Path, segmenter: FakeSegmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(clip, tmp_path / "out", "the dog") == 0
    capsys.readouterr()
    arguments = ["--video", str(clip), "--query", "the dog", "--output", str(tmp_path / "out")]
    assert inference.main([*arguments, "--model", "other"]) == 2
    assert "holds predictions of model 'embedded' and not 'other'" in one_line(capsys)


def test_a_model_whose_files_changed_is_another_one(
    clip: Path, tmp_path: Path, segmenter: FakeSegmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "mine"
    model.mkdir()
    (model / "preset.yaml").write_text("reason: {}")
    (model / "glue.safetensors").write_bytes(b"before" * 100_000)
    arguments = ["--video", str(clip), "--query", "the dog", "--output", str(tmp_path / "out")]
    for _ in range(2):
        assert inference.main([*arguments, "--model", str(model)]) == 0
    assert segmenter.asked == ["the dog"]
    capsys.readouterr()
    (model / "glue.safetensors").write_bytes(b"before" * 99_999 + b"after ")
    assert inference.main([*arguments, "--model", str(model)]) == 2
    assert f"predictions of {model} as it was before its files changed" in one_line(capsys)


def test_a_misspelt_model_does_not_take_the_folder(
    clip: Path, tmp_path: Path, segmenter: FakeSegmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--video", str(clip), "--query", "the dog", "--output", str(tmp_path / "out")]
    assert inference.main([*arguments, "--model", "embeded"]) == 2
    assert "did you mean 'embedded'?" in one_line(capsys)
    assert inference.main(arguments) == 0


def test_a_full_disk_keeps_what_is_done(
    clip: Path,
    tmp_path: Path,
    segmenter: FakeSegmenter,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save = Tracklet.save

    def full(self: Tracklet, folder: Path) -> Path:
        if self.question == "the cat":
            raise OSError(28, "No space left on device")
        return save(self, folder)

    monkeypatch.setattr(Tracklet, "save", full)
    assert run(clip, tmp_path / "out", "the dog", "the cat") == 1
    assert "No space left on device; what is done is kept" in one_line(capsys)
    assert len(summary_in(tmp_path / "out")["videos"][0]["results"]) == 1


def test_the_progress_bars_follow_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    with StageBars() as bars:
        bars("propagate", 1, 10)
        bars("propagate", 10, 10)
        bars("propagate", 0, 5)
        bars("an unknown stage", 0, 0)
    errors = capsys.readouterr().err
    assert "10/10" in errors
    assert "an unknown stage" in errors


@pytest.mark.parametrize("script", ["inference.py", "chat.py"])
def test_help_answers_without_torch(script: str) -> None:
    code = (
        f"import runpy, sys; sys.argv = ['{script}', '--help']\n"
        f"try: runpy.run_path('{script}', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'transformers', 'cv2', 'av', 'decord'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert len((ROOT / script).read_text().splitlines()) < 80
