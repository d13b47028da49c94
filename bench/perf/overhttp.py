"""Steps of a training script whose slots and queue a membank server keeps."""
import json
import os
import sys
import time

import numpy as np

directory, url, server, durability = sys.argv[1:5]
rows, dim, batch, negatives, capacity = map(int, sys.argv[5:10])
sys.path.insert(0, directory)
import membank  # noqa: E402: the client stands in that directory


def processor():
    """Milliseconds of processor time of the server so far, where Linux tells them."""
    try:
        with open("/proc/%s/stat" % server) as f:
            fields = f.read().rpartition(")")[2].split()
        return 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return None


r = np.random.default_rng(0)
client = membank.Client(url)
slots = client.slots("slots", rows=rows, dim=dim, init="uniform")
queue = client.queue("queue", rows=capacity, dim=dim)

for line in sys.stdin:
    n, times = int(line), {"slots": [], "queue": []}
    batches = [r.random((batch, dim), np.float32) - np.float32(0.5) for _ in range(n)]
    before, own = processor(), time.process_time()
    for f in batches:
        ids = r.integers(0, rows, batch)
        start = time.perf_counter()
        got = slots.update(ids, f, keep_old=0.5, durability=durability, negatives=negatives)
        times["slots"].append(1e3 * (time.perf_counter() - start))
        assert got["rows"].shape == (negatives, dim)
    if n:
        times["client"] = [1e3 * (time.process_time() - own) / n]
    if n and before is not None:
        times["server"] = [(processor() - before) / n]
    for f in batches:
        start = time.perf_counter()
        queue.push(f, durability=durability)
        times["queue"].append(1e3 * (time.perf_counter() - start))
    print(json.dumps(times), flush=True)
client.close()
