"""``python run_recbole_hellm.py --model=HeLLM --dataset=ml-100k [--key=value ...]``."""

import sys

from recbole_hellm.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
