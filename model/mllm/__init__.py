"""The multi-frame language model: frames and a question in, an answer and prompt embeddings out."""
