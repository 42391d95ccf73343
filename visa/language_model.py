"""SmolLM2 from its GGUF file: converted once by transformers into the cache, quick to load from then on."""

import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from visa.public_files import cache_folder


def load_language_model(gguf_path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The causal LM in bfloat16 and its tokenizer.

    Args:
        gguf_path: a GGUF file of a Llama-family model.
    """
    folder = cache_folder() / "converted" / gguf_path.parent.name
    if not (folder / "model.safetensors").is_file():
        _convert(gguf_path, folder)
    bars_were_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # a load of half a second draws no bar
    try:
        language = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    finally:
        if bars_were_on:
            logging.enable_progress_bar()
    return language.eval(), AutoTokenizer.from_pretrained(folder)


def _convert(gguf_path: Path, folder: Path) -> None:
    """Dequantise to bfloat16 safetensors, the tokenizer beside it; a broken-off conversion leaves nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the bars stay; advice on quantised models is not for our users
    try:
        where = {"gguf_file": gguf_path.name}
        AutoTokenizer.from_pretrained(gguf_path.parent, **where).save_pretrained(partial)
        language = AutoModelForCausalLM.from_pretrained(gguf_path.parent, dtype=torch.bfloat16, **where)
        # transformers refuses to save a model that came quantised; its weights are plain by now.
        del language.config.quantization_config
        tied = "lm_head.weight" if language.config.tie_word_embeddings else None
        weights = {name: value.clone() for name, value in language.state_dict().items() if name != tied}
        save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
        language.config.save_pretrained(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        logging.set_verbosity(verbosity)
        shutil.rmtree(partial, ignore_errors=True)
