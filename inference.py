"""Answer questions about a video, a folder of videos or a data set, with words and masks.

python inference.py --video CLIP --query "..." [--query "..."] --output DIR [--model embedded]
python inference.py --video-folder DIR --queries FILE.json --output DIR [--model embedded]
python inference.py --dataset NAME --root DIR --output DIR [--split SPLIT] [--evaluate] [--model embedded]
"""

import sys

from visa.commands.inference import main

if __name__ == "__main__":
    sys.exit(main())
