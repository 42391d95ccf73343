"""[SEG] systems on backbones of transformers, and the folders with what training adds to a backbone."""
