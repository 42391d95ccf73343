"""What a line of a conversation does: questions and slash commands, on a `visa.ChatSession`."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataset.counting import count_of
from visa.answer_words import verdict
from visa.commands.interrupts import postponed_interrupts
from visa.commands.output import complain, prepare_output, reason, warn, write_json
from visa.errors import DownloadError, InputError
from visa.preset_files import check_model

if TYPE_CHECKING:
    from visa.chat_session import ChatSession, Turn
    from visa.commands.chat_screen import Screen

CONVERSATION_NAME = "conversation.json"
# Of a frame's number.
MAX_DIGITS = 9


@dataclass(frozen=True)
class Command:
    """A slash command: name, what it takes ("" for nothing), what it does in words, and what does it."""

    name: str
    takes: str
    help: str
    run: Callable[[str], bool | None]


class Chat:
    """The conversation as a person sees it.

    Args:
        session: its state.
        output: folder for the answers, `<output>/<clip's name>/<number>/` each.
        screen: where it is shown.
    """

    def __init__(self, session: ChatSession, output: Path, screen: Screen) -> None:
        self._session = session
        self._output = output
        self._screen = screen
        self._num_warnings = 0
        self._last_folder: Path | None = None
        self._saved_to: set[Path] = set()
        table = (
            Command(
                "/open",
                "CLIP",
                "ask about another clip, a video file or a folder of frames",
                self._open_typed,
            ),
            Command("/frame", "N", "look at frame N, from 0", self._frame),
            Command("/show", "", "show the frame that is looked at, with the last answer on it", self._show),
            Command("/save", "DIR", "write the whole conversation to a new folder", self._save),
            Command("/reset", "", "forget the conversation, keep the clip", self._reset),
            Command("/model", "NAME", "go on with another model", self._model),
            Command("/help", "", "this", self._help),
            Command("/quit", "", "leave, as Ctrl-D does", lambda _: True),
        )
        self._commands = {command.name: command for command in table}

    def commands(self) -> dict[str, str]:
        """Each command with what it takes."""
        return {command.name: command.takes for command in self._commands.values()}

    def model_names(self) -> list[str]:
        """The models that have a name."""
        from visa.preset_files import preset_names

        return preset_names()

    def status(self) -> str:
        """The clip, the frame that is looked at and the model, in one line."""
        try:
            video = self._session.video
        except InputError:
            return f" no clip: /open CLIP · {self._session.model}"
        return (
            f" {video.name} · frame {self._session.frame_index} of {video.num_frames} · {self._session.model}"
        )

    def take(self, line: str) -> bool:
        """Do what a line says; whether the conversation is over. What goes wrong costs one line on stderr."""
        line = line.strip().replace("\0", "")
        if not line:
            return False
        if line.startswith("/"):
            name, _, argument = line.partition(" ")
            name = "/help" if name == "/" else name
            if name not in self._commands:
                near = difflib.get_close_matches(name, self._commands, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                complain(f"no such command: {name}{hint} (/help lists them)")
                return False
            run, text = self._commands[name].run, argument.strip()
        else:
            run, text = self._ask, line
        return self._guarded(lambda: run(text))

    def _guarded(self, do: Callable[[], bool | None]) -> bool:
        try:
            return bool(do())
        except BrokenPipeError:
            raise
        except (InputError, DownloadError) as error:
            complain(error)
        except OSError as error:
            complain(f"{error.filename or self._output}: {reason(error)}")
        except (MemoryError, RuntimeError) as error:
            # Too little memory for one question, most of all: the next may be a smaller one.
            complain(f"the model failed: {error or type(error).__name__}")
        return False

    def stop(self, hint: str) -> None:
        """After an interrupt: nothing is held to be in order that was being worked on."""
        self._session.look_anew()
        self._screen.note(f"stopped; {hint}")

    def open(self, clip: str | Path) -> bool:
        """Open a clip; if that fails, say so and keep the one there was. Whether a clip is open then."""
        self._guarded(lambda: self._open(Path(clip)))
        return self._session.has_clip

    def _open_typed(self, argument: str) -> None:
        if not argument:
            raise InputError("give the clip: /open CLIP")
        self._open(_path(argument))

    def _open(self, path: Path) -> None:
        self._session.open(path)
        self._last_folder, self._num_warnings = None, 0
        video = self._session.video
        size = f"{video.width}x{video.height}"
        self._screen.say(
            f"{video.name}: {count_of(video.num_frames, 'frame')} of {size}, {video.fps:.4g} per second"
        )
        self._pass_on_warnings()

    def _ask(self, question: str) -> None:
        if not question.isascii() and any(0xDC80 <= ord(character) <= 0xDCFF for character in question):
            raise InputError("that line is not text in the encoding of this terminal; try again")
        if self._session.has_clip:
            self._load()
        with self._screen.progress() as progress:
            turn = self._session.ask(question, progress=progress)
        self._last_folder = None
        if turn.question != turn.typed:
            self._screen.say(f"(asked as: {turn.question})", "dim")
        self._screen.say(verdict(turn.answer, turn.found), "bold")
        if turn.remark:
            self._screen.say(f"but {turn.remark}", "yellow")
        if turn.found and self._screen.shows_pictures:
            self._screen.show(self._session.picture())
        self._keep(turn)
        self._pass_on_warnings()

    def _keep(self, turn: Turn) -> None:
        parent = prepare_output(self._output / self._session.video.name)
        number = 0
        while (parent / str(number)).exists():
            number += 1
        folder = self._session.tracklet(turn).save(parent / str(number))
        self._last_folder = folder
        self._screen.say(str(folder / "contact_sheet.png"), "dim")

    def _frame(self, argument: str) -> None:
        if not argument.isdecimal() or len(argument) > MAX_DIGITS:
            raise InputError(f"give a frame's number, from 0: /frame N, not {argument!r}")
        self._session.go_to(int(argument))
        self._show("")

    def _show(self, _: str) -> None:
        from PIL import Image

        picture = self._session.picture()
        name = self._session.video.frame_names[self._session.frame_index]
        if self._screen.shows_pictures:
            self._screen.show(picture)
            self._screen.say(f"frame {name} of {self._session.video.num_frames}", "dim")
            return
        folder = self._last_folder or prepare_output(self._output / self._session.video.name)
        path = folder / f"shown_{name}.png"
        Image.fromarray(picture).save(path)
        self._screen.say(str(path))

    def _save(self, argument: str) -> None:
        if not argument:
            raise InputError("give a folder: /save DIR")
        if not self._session.turns:
            raise InputError("there is nothing to save yet: ask something first")
        folder = prepare_output(_path(argument))
        # What is in the way may be another conversation's.
        if folder.resolve() not in self._saved_to and any(folder.iterdir()):
            raise InputError(f"{folder} is not empty; give a new folder")
        self._saved_to.add(folder.resolve())
        turns = []
        for turn in self._session.turns:
            self._session.tracklet(turn).save(folder / str(turn.number))
            turns.append(_as_json(turn))
            write_json(folder / CONVERSATION_NAME, {"video": self._session.video.name, "turns": turns})
        self._screen.say(str(folder / CONVERSATION_NAME))

    def _reset(self, _: str) -> None:
        self._session.reset()
        self._last_folder = None
        self._saved_to.clear()
        self._screen.say("the conversation begins anew")

    def _model(self, argument: str) -> None:
        if not argument:
            self._screen.say(f"{self._session.model} (there are {', '.join(self.model_names())})")
            return
        path = _path(argument)
        model = str(path) if path.exists() else argument
        check_model(model)
        self._load(model)
        self._screen.say(f"the model is {self._session.model} now")

    def _load(self, model: str | None = None) -> None:
        """Load the session's model if it is not loaded, or another one."""
        if model is None and self._session.is_loaded:
            return
        self._screen.note(f"loading {model or self._session.model} ...")
        import visa

        with postponed_interrupts():
            _ = visa.load  # imports PyTorch, which does not bear to be stopped half-way
        if model is None:
            self._session.load()
        else:
            self._session.use(model)

    def _help(self, _: str) -> None:
        self._screen.say("Type a question to find something in the clip, such as: the dog on the left")
        self._screen.say("It may point back to the last thing found: and the one behind it?")
        self._screen.list(
            (f"{command.name} {command.takes}".strip(), command.help) for command in self._commands.values()
        )

    def _pass_on_warnings(self) -> None:
        """Say what is newly wrong with the clip: some damage shows only as frames are read."""
        warnings = self._session.video.warnings
        for line in warnings[self._num_warnings :]:
            warn(line)
        self._num_warnings = max(self._num_warnings, len(warnings))


def _path(argument: str) -> Path:
    """A path as people type or drop it: in quotes, with ~, or with escaped spaces."""
    readings = [argument]
    try:
        words = shlex.split(argument)
    except ValueError:
        words = []
    if len(words) == 1:
        readings.append(words[0])
    if len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "'\"":
        readings.append(argument[1:-1])
    paths = [os.path.expanduser(reading) for reading in readings]  # noqa: PTH111  # lets an unknown ~name be
    return Path(next(filter(os.path.exists, paths), paths[-1]))


def _as_json(turn: Turn) -> dict:
    return {
        "number": turn.number,
        "typed": turn.typed,
        "question": turn.question,
        "model": turn.model,
        "answer": turn.answer,
        "found": turn.found,
        "score": turn.score,
        "target_frame": -1 if turn.target_frame is None else turn.target_frame,
        "remark": turn.remark,
        "folder": str(turn.number),
    }
