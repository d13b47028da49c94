"""Slots and a queue as a training script keeps them: NumPy arrays, nothing on disk."""
import json
import sys
import time

import numpy as np

rows, dim, batch, negatives, capacity = map(int, sys.argv[1:6])
r = np.random.default_rng(0)
a = np.float32(np.sqrt(3 / dim))
bank = np.empty((rows, dim), np.float32)
for i in range(0, rows, 65536):
    part = bank[i:i + 65536]
    part[:] = (r.random(part.shape, np.float32) * 2 - 1) * a
queue, cursor = np.zeros((capacity, dim), np.float32), 0
got = np.empty((negatives, dim), np.float32)

for line in sys.stdin:
    times = {"slots": [], "queue": []}
    for _ in range(int(line)):
        f = r.random((batch, dim), np.float32) - np.float32(0.5)
        ids, negs = r.integers(0, rows, batch), r.integers(0, rows, negatives)
        start = time.perf_counter()
        np.take(bank, negs, axis=0, out=got, mode="clip")
        new = np.float32(0.5) * bank[ids] + np.float32(0.5) * f
        new /= np.linalg.norm(new, axis=1, keepdims=True)
        bank[ids] = new
        times["slots"].append(1e3 * (time.perf_counter() - start))
        start = time.perf_counter()
        queue[(cursor + np.arange(batch)) % capacity] = f
        cursor = (cursor + batch) % capacity
        times["queue"].append(1e3 * (time.perf_counter() - start))
    print(json.dumps(times), flush=True)
