"""Archives for the servers: the official layout, checked, or none at all."""

import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from dataset.registry import open_dataset
from tests import tiny_video_datasets
from tests.written_predictions import write_predictions
from visa.evaluation.__main__ import main
from visa.evaluation.submission import check_submission

SERVERS = [("mevis", ""), ("ref_youtube_vos", "Annotations/")]


def make(name, tmp_path):
    root = getattr(tiny_video_datasets, f"write_{name}")(tmp_path / name, "valid").root
    if name == "ref_youtube_vos":
        # the 202 scored ones are those that are not in the test split's file
        tiny_video_datasets.write_ref_youtube_vos(tmp_path / name, "test", videos=("only for the test",))

    def corner(clip, expression, truth):
        truth = truth.copy()
        truth[:, :2, :3] = True
        return truth

    return root, write_predictions(tmp_path / "out", name, root, "valid", corner, value=1)


def submit(name, root, predictions, archive):
    arguments = [str(predictions), "--dataset", name, "--root", str(root), "--quiet"]
    return main([*arguments, "--submission", str(archive)])


@pytest.mark.parametrize(("name", "prefix"), SERVERS)
def test_the_archive_has_the_official_layout(name, prefix, tmp_path, capsys):
    root, predictions = make(name, tmp_path)
    archive = tmp_path / "new" / "submission.zip"
    assert submit(name, root, predictions, archive) == 0
    assert "layout checked" in capsys.readouterr().out
    reader = open_dataset(name, root, "valid")
    expected = {
        f"{prefix}{clip.name}/{expression.id}/{frame}.png"
        for clip in reader
        for expression in clip.expressions
        for frame in clip.frame_names
    }
    with zipfile.ZipFile(archive) as content:
        assert set(content.namelist()) == expected
        with content.open(sorted(expected)[0]) as file:
            mask = np.asarray(Image.open(file))
    assert (mask.dtype, mask.sum(dtype=int)) == (np.uint8, 6 * 255)
    assert check_submission(archive, name, reader) == []
    assert [path.name for path in archive.parent.iterdir()] == ["submission.zip"]
    before = archive.read_bytes()
    submit(name, root, predictions, archive)
    assert archive.read_bytes() == before


@pytest.mark.parametrize(("name", "prefix"), SERVERS)
def test_no_archive_is_written_where_something_is_missing(name, prefix, tmp_path, capsys):
    root, predictions = make(name, tmp_path)
    clip = open_dataset(name, root, "valid")[0]
    (predictions / clip.name / clip.expressions[0].id / f"{clip.frame_names[1]}.png").unlink()
    archive = tmp_path / "submission.zip"
    assert submit(name, root, predictions, archive) == 1
    error = capsys.readouterr().err
    assert f"the first is {clip.frame_names[1]}.png" in error
    assert "no archive written" in error
    assert not archive.exists()
    assert not list(tmp_path.glob(".*"))


def test_nothing_makes_no_archive(tmp_path, capsys):
    tiny = tiny_video_datasets.write_mevis(tmp_path / "mevis", "valid")
    archive = tmp_path / "submission.zip"
    tiny.meta.write_text('{"videos": {}}')
    assert submit("mevis", tiny.root, tmp_path, archive) == 2
    tiny.meta.write_text('{"videos": {"../up": {}}}')
    assert submit("mevis", tiny.root, tmp_path, archive) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "no clip that can be packed: there is none in it" in first
    assert "'../up' leads out of its folder" in second
    assert not archive.exists()


def test_faults_of_an_archive_are_named(tmp_path):
    root, predictions = make("mevis", tmp_path)
    archive = tmp_path / "submission.zip"
    assert submit("mevis", root, predictions, archive) == 0
    reader = open_dataset("mevis", root, "valid")
    with zipfile.ZipFile(archive) as content:
        entries = {name: content.read(name) for name in content.namelist()}
    first, second, *others = entries
    other = tmp_path / "other.zip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the entry that is written twice
        with zipfile.ZipFile(other, "w") as content:
            for entry in [*others, others[0]]:
                content.writestr(entry, entries[entry])
            content.writestr(second, b"no picture")
            content.writestr("Annotations/" + first, entries[first])
    faults = "\n".join(check_submission(other, "mevis", reader))
    for words in (f"{others[0]} is in it 2 times", f"{first} is missing", "does not belong", "is no picture"):
        assert words in faults
    (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:50])
    assert "not a whole archive" in check_submission(tmp_path / "cut.zip", "mevis", reader)[0]
