"""LLaVA-Phi-3 and VideoLISA on it: a video as a few frames in full and many as one token each."""
