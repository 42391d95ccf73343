"""Ask questions about a video, one after another.

python chat.py [CLIP] [--model embedded]
"""

import sys

from visa.commands.chat import main

if __name__ == "__main__":
    sys.exit(main())
