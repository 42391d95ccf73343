"""What a training run is told about its data."""

from dataclasses import dataclass, field

from visa.errors import InputError


@dataclass(frozen=True)
class DataSettings:
    """The section ``data`` of a recipe.

    mixture: a recipe of `dataset.recipe`: the name of one that comes with the project, or a YAML file; "":
        the system's own.
    root: the folder that holds all data sets. roots: where each lies, by its name in `dataset.registry`,
        instead.
    skip_missing: leave out the data sets that are not there; each is named.
    together: so many samples in a row are of one kind, where the mixture is balanced. As many as all ranks
        read at a time keep the ranks in step; the samples depend on it, so it stays when the ranks change.
    max_tokens: tokens of a conversation at most, a picture counting as one; 0: as many as the system was
        trained with, 2048 for VISA, 1793 for VideoLISA. Longer talk is cut; what would lose a [SEG] is not
        used.
    broken_share: the run stops when a larger share of what was read is broken.
    workers: processes that read; 0: none, the run reads for itself. prefetch: batches that each reads ahead.
    """

    mixture: str = ""
    root: str = ""
    roots: dict[str, str] = field(default_factory=dict)
    skip_missing: bool = False
    together: int = 1
    max_tokens: int = 0
    broken_share: float = 0.01
    workers: int = 4
    prefetch: int = 2

    def __post_init__(self) -> None:
        if bool(self.root) == bool(self.roots):
            raise InputError(
                "data.root must name the folder that holds all data sets, or data.roots the folder of each; "
                f"got {'both' if self.root else 'neither'}"
            )
        least = {"together": 1, "max_tokens": 0, "workers": 0, "prefetch": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise InputError(f"data.{name} must be at least {bound}, got {getattr(self, name)}")
        if not 0 <= self.broken_share <= 1:
            raise InputError(f"data.broken_share must be from 0 to 1, got {self.broken_share}")
