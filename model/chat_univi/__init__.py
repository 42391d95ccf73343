"""Chat-UniVi and VISA on it: CLIP patches merged to 112 tokens a frame, read by a LLaMA."""
