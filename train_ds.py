"""Train a system: python train_ds.py --config train/embedded [key=value ...]"""

import sys

from visa.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
