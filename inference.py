"""Answer questions about a video with words and masks.

python inference.py --video CLIP --query "..." [--query "..."] --output DIR [--model embedded]
"""

import sys

from visa.commands.inference import main

if __name__ == "__main__":
    sys.exit(main())
