"""Vision-language models of the Hugging Face hub, behind one face."""
