"""train_ds.py: exit codes, one line for each mistake, and what is handed to the training."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from visa.commands import train
from visa.errors import DownloadError, InputError
from visa.training.batches.faults import DataError
from visa.training.engine.faults import TrainingError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def trained(monkeypatch):
    """Settings that training was started with; `fail` is raised in it, or it ends as ``finished`` says."""
    from visa.training import embedded
    from visa.training.engine.stage import Outcome

    trained = SimpleNamespace(settings=[], fail=None, finished=True)

    def train_embedded(settings):
        trained.settings.append(settings)
        if trained.fail is not None:
            raise trained.fail
        return Outcome(True, Path("runs/here")) if trained.finished else Outcome(False)

    monkeypatch.setattr(embedded, "train_embedded", train_embedded)
    return trained


def test_done(trained, capsys):
    arguments = ["--config", "train/embedded", "seed=4", "words.steps=2"]
    assert train.main(arguments) == 0
    (settings,) = trained.settings
    assert (settings.seed, settings.words.steps) == (4, 2)
    assert capsys.readouterr().out == f"wrote {Path('runs/here')}\n"


def test_a_run_that_sigterm_ended_is_told_by_its_exit_code(trained, capsys):
    trained.finished = False
    assert train.main(["--config", "train/embedded"]) == 128 + 15
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "train/embeded"], "train/embedded"),
        (["--config", "train/embedded", "sed=4"], "did you mean 'seed'"),
        (["--config", "train/embedded", "seed=many"], "seed must be a whole number"),
        (["--config", "train/embedded", "seed"], "expected key=value"),
    ],
)
def test_bad_settings_exit_with_2_and_one_line(trained, capsys, arguments, message):
    assert train.main(arguments) == 2
    assert not trained.settings
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["seed=1"], ["--config"], ["--config", "train/embedded", "--fast"]]
)
def test_bad_usage_exits_with_2(trained, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(arguments)
    assert caught.value.code == 2
    assert "usage: train_ds.py" in capsys.readouterr().err
    assert not trained.settings


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("bad\ninput"), 2),
        (DownloadError("mobile_sam.pt cannot be had"), 1),
        (PermissionError(13, "Permission denied", "runs"), 1),
        (TrainingError("the loss of step 3\nis not finite"), 1),
        (DataError("11 of 23 samples are broken"), 1),
    ],
    ids=["input", "download", "disk", "training", "data"],
)
def test_failures_in_training_are_one_line_too(trained, capsys, error, code):
    trained.fail = error
    assert train.main(["--config", "train/embedded"]) == code
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_our_own_mistakes_are_not_hidden(trained):
    trained.fail = RuntimeError("the loss of step 3 is nan")
    with pytest.raises(RuntimeError, match="step 3"):
        train.main(["--config", "train/embedded"])


def test_help_answers_at_once_without_torch():
    script = (
        "import sys\n"
        "from visa.commands import train\n"
        "try: train.main(['--help'])\n"
        "finally: assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "--config PRESET_OR_FILE" in run.stdout


def test_the_root_script_ends_with_the_commands_exit_code():
    run = subprocess.run(
        [sys.executable, "train_ds.py", "--config", "train/nothing"],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=120,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.startswith("error: no recipe is called 'train/nothing'")
    assert len((ROOT / "train_ds.py").read_text().splitlines()) < 80
