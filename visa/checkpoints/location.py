"""Where a published checkpoint lies: a path on this machine, or a repository of the Hugging Face hub."""

import re
from pathlib import Path

from visa.errors import DownloadError, InputError

# Everything beside the weights: configuration, tokenizer, shard index.
SMALL_FILES = ("*.json", "*.model", "*.txt")
# Best first; a repository that holds both is fetched once.
WEIGHT_FILES = ("*.safetensors", "*.bin")
PICKLED = (".bin", ".pt", ".pth")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def locate(where: str | Path, relative_to: Path | None = None, *, weights: bool = True) -> Path:
    """The folder or file meant by a path or a repository's id, fetched into the hub's cache where need be.

    Args:
        where: a path, or ``owner/name`` on the hub ($HF_HOME, $HF_ENDPOINT and $HF_HUB_OFFLINE are honoured).
        relative_to: a folder in which a relative path is looked for first.
        weights: False fetches a repository's small files alone.

    Raises:
        InputError: neither a path that exists nor a repository's id.
        DownloadError: the hub did not give it.
    """
    for path in (relative_to / where if relative_to else Path(where), Path(where).expanduser()):
        if path.exists():
            return path
    if not REPOSITORY.fullmatch(str(where)):
        raise InputError(
            f"there is no {where}: expected a folder, a weight file, or a hub repository owner/name"
        )
    return _fetch(str(where), WEIGHT_FILES if weights else ())


def _fetch(repository: str, weights: tuple[str, ...]) -> Path:
    """A repository's newest files, without its weights in formats that we do not read."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    absent = None
    for pattern in weights or SMALL_FILES[:1]:
        try:
            folder = Path(snapshot_download(repository, allow_patterns=[*SMALL_FILES, pattern]))
            if not weights or any(folder.glob(pattern)):
                return folder
        except GatedRepoError as error:
            raise InputError(
                f"{repository} asks for your consent: accept it on the hub, then `hf auth login`"
            ) from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise InputError(f"there is no folder and no hub repository {repository}") from error
        except LocalEntryNotFoundError as error:
            absent = error
        except OSError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DownloadError(f"{repository} could not be fetched from the hub: {reason}") from error
    if absent is not None:
        raise DownloadError(
            f"{repository} is not in the cache and the hub cannot be reached; "
            "copy the repository to this machine and give its folder"
        ) from absent
    raise InputError(f"the hub repository {repository} holds no weights ({' or '.join(weights)})")
