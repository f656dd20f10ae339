"""`vllm serve`, started in a third of the time on a CPU.

    python serve.py MODEL --port 8000 ...

vLLM's CPU platform makes every process of a server import everything anew, which takes 20 seconds of CPU each. One
thread and no GPU make a fork safe, so here the engine and its worker are forked from what is imported already.
"""

import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from vllm.platforms.cpu import CpuPlatform

original = CpuPlatform.check_and_update_config


def fork_instead(config):
    original(config)
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"


CpuPlatform.check_and_update_config = staticmethod(fork_instead)
os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

from vllm.entrypoints.cli.main import main

sys.argv = ["vllm", "serve", *sys.argv[1:]]
sys.exit(main())
