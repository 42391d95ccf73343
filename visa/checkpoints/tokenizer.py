"""The tokenizer of a published checkpoint, [SEG] in it."""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerBase

from visa.checkpoints.configuration import read_json
from visa.checkpoints.location import locate
from visa.errors import InputError

SEG_TOKEN = "[SEG]"
FILES = ("tokenizer.json", "tokenizer.model")


def load_tokenizer(
    system: str, where: Path, rows: int, *, trained: bool, base: str | Path | None = None
) -> tuple[PreTrainedTokenizerBase, int]:
    """The tokenizer and the id of [SEG].

    Published systems add [SEG] behind the words of their base model's tokenizer. Where a checkpoint came with
    that one, the same is done here.

    Args:
        system: "visa" or "videolisa".
        where: the checkpoint's folder or file.
        rows: words of the model's embedding.
        trained: whether the checkpoint has a [SEG] head, and thus a row for [SEG].
        base: folder or repository of the base model, whose tokenizer stands in for a missing one.

    Raises:
        InputError: no tokenizer, or one that does not fit the embedding.
    """
    folder = where if where.is_dir() else where.parent
    if not any((folder / name).is_file() for name in FILES):
        if base is None:
            raise InputError(
                f"{folder} has no tokenizer ({' or '.join(FILES)}); copy the base model's into it"
            )
        folder = locate(base, weights=False)
    tokenizer = _read(folder)
    tokenizer.padding_side = "right"
    if SEG_TOKEN not in tokenizer.get_vocab():
        if len(tokenizer) >= rows and trained:
            raise InputError(
                f"the tokenizer of {folder} has no {SEG_TOKEN}, and the model's embedding ({rows} rows) has "
                f"none for it behind the tokenizer's {len(tokenizer)} words; take the tokenizer that the "
                "model was trained with"
            )
        tokenizer.add_tokens(SEG_TOKEN)
        print(
            f"visa: the tokenizer of {folder} has no {SEG_TOKEN}; "
            f"added as word {tokenizer.convert_tokens_to_ids(SEG_TOKEN)}, as the published training does",
            file=sys.stderr,
        )
    _settle_seg(tokenizer, swallows_spaces=system == "visa")
    seg_token_id = tokenizer.convert_tokens_to_ids(SEG_TOKEN)
    if seg_token_id >= rows and trained:
        raise InputError(
            f"{SEG_TOKEN} is word {seg_token_id} of the tokenizer of {folder}, but the model's embedding has "
            f"only {rows} rows; take the tokenizer that the model was trained with"
        )
    return tokenizer, seg_token_id


def _read(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast

    settings = (
        read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    )
    name = settings.get("tokenizer_class") or "LlamaTokenizer"
    is_llama = name.startswith(("Llama", "CodeLlama"))
    if not is_llama and not (folder / "tokenizer.json").is_file():
        raise InputError(f"{folder} has a {name}; expected LLaMA's tokenizer, or tokenizer.json")
    # What the files leave out meant this when they were written; transformers has other defaults now.
    legacy = settings.get("legacy") is not False
    options = (
        {"legacy": legacy, "add_bos_token": settings.get("add_bos_token") is not False} if is_llama else {}
    )
    kind = LlamaTokenizer if is_llama else PreTrainedTokenizerFast
    try:
        tokenizer = kind.from_pretrained(folder, **options)
    except ImportError as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{folder} has only tokenizer.model, which needs: pip install sentencepiece protobuf ({reason})"
        ) from error
    except Exception as error:  # tokenizers raises nothing more exact for a file that it cannot read
        raise InputError(
            f"the tokenizer of {folder} cannot be read: {' '.join(str(error).split())[:160]}"
        ) from error
    if is_llama and legacy:
        _prefix_every_piece(tokenizer)
    # Both systems pad with the unknown word, whatever their base model did.
    tokenizer.pad_token = tokenizer.unk_token or tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def _prefix_every_piece(tokenizer: PreTrainedTokenizerBase) -> None:
    """Put a space before every piece of text as SentencePiece does, also before one that begins with a space.

    transformers 5 leaves the second kind out, which changes VISA's prompt: behind an image it goes on with a
    space and a line break.
    """
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = None


def _settle_seg(tokenizer: PreTrainedTokenizerBase, swallows_spaces: bool) -> None:
    """Have [SEG] found in the text as it is written, and take the spaces on both sides with it or not.

    Slow tokenizers before transformers 4.34, under which VISA was trained, gave an added word the spaces
    around it: the state before the [SEG] of "It is [SEG].", which draws the mask, is then that of "is".
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    for word in backend["added_tokens"]:
        if word["content"] == SEG_TOKEN:
            word |= {"lstrip": swallows_spaces, "rstrip": swallows_spaces, "normalized": False}
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(backend))
