"""The formulas of memory banks, once more, in NumPy and float64.

Reads what a test did for some steps and what came of it (an .npz), does the same by
the formulas, and prints the largest difference of each kind as JSON.
"""
import json
import sys

import numpy as np

z = dict(np.load(sys.argv[1]))
steps = len(z["keep_old"])
worst = {}


def note(what, got, want):
    worst[what] = max(worst.get(what, 0.0), float(np.max(np.abs(got - want), initial=0.0)))


def normalised(x):
    # Where the sum is zero in float32 it is a rounding error here.
    n = np.linalg.norm(x)
    return None if n < 1e-6 else x / n


# Slots: each occurrence of an id is mixed with the row before the batch, the last
# one wins; or, compounded, with what the one before it made.
bank = z["slots_init"].astype(np.float64)
for t in range(steps):
    a, b = z["slots_first"][t], z["slots_first"][t + 1]
    m, before = float(z["keep_old"][t]), bank.copy()
    for i, f in zip(z["slots_ids"][a:b], z["slots_rows"][a:b].astype(np.float64)):
        old = bank[i] if z["compound"][t] else before[i]
        new = normalised(m * old + (1 - m) * f)
        bank[i] = old if new is None else new
    note("slots", z["slots_state"][t], bank)

# Queue: position (cursor+i) mod capacity.
queue, cursor = z["queue_init"].astype(np.float64), 0
for t in range(steps):
    a, b = z["queue_first"][t], z["queue_first"][t + 1]
    at = (cursor + np.arange(b - a)) % len(queue)
    for i, row in zip(at, z["queue_rows"][a:b]):
        queue[i] = row
    cursor = (cursor + b - a) % len(queue)
    note("queue", z["queue_state"][t], queue)
    note("cursor", z["cursor"][t], cursor)

# NCE with a normaliser that is a moving average, InfoNCE beside it.
N, T, eps, Z = int(z["nce_rows"][0]), 0.07, 1e-7, None
for t in range(steps):
    s = z["scores"][t].astype(np.float64)
    e = np.exp(s / T)
    estimate = e.mean() * N
    Z = estimate if Z is None else 0.99 * Z + 0.01 * estimate
    K = s.shape[1] - 1
    p, c = e / Z, K / N
    loss = -(np.log(p[:, 0] / (p[:, 0] + c + eps)) + np.log(c / (p[:, 1:] + c + eps)).sum(1)).mean()
    note("z", z["nce_z"][t] / Z, 1)
    note("nce", z["nce_loss"][t], loss)
    info = (np.log(e.sum(1)) - s[:, 0] / T).mean()
    note("infonce", z["infonce_loss"][t], info)

# Sinkhorn, as SwAV writes it down: Q is prototypes × samples.
for t in range(steps):
    both = np.concatenate([z["swav_queue"][t], z["swav_scores"][t]]).astype(np.float64)
    Q = np.exp(both / 0.05).T
    K, B = Q.shape
    Q /= Q.sum()
    for _ in range(3):
        Q /= Q.sum(1, keepdims=True)
        Q /= K
        Q /= Q.sum(0, keepdims=True)
        Q /= B
    note("sinkhorn", z["swav_q"][t], (Q * B).T[len(z["swav_queue"][t]):])

print(json.dumps(worst))
