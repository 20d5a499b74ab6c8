"""The other end of peers.Mnn: images in at stdin, refined images out at stdout.

python peer_mnn.py MODEL BATCH THREADS
"""

from __future__ import annotations

import os
import sys

import numpy as np


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # MNN prints to stdout
    import MNN

    path, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    settings = {"backend": "CPU", "precision": "high", "numThread": threads}
    runtime = MNN.nn.create_runtime_manager((settings,))
    net = MNN.nn.load_module_from_file(path, [], [], runtime_manager=runtime)
    shape = [batch, 1, 35, 55]
    while request := sys.stdin.buffer.read(4 * batch * 35 * 55):
        images = np.frombuffer(request, np.float32).reshape(shape)
        given = MNN.expr.const(images, shape, MNN.expr.NCHW)
        given = MNN.expr.convert(given, MNN.expr.NC4HW4)
        refined = MNN.expr.convert(net.forward([given])[0], MNN.expr.NCHW).read()
        answers.write(np.ascontiguousarray(refined, np.float32).tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
