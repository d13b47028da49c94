"""Two small self-supervised trainings whose memory banks live in a membank server.

    membank serve &
    membank python-client > membank.py
    python3 train_torch.py http://127.0.0.1:7700

InstDisc (Wu et al. 2018) keeps a slot for every sample and draws noise from the
bank; MoCo (He et al. 2020) keeps a queue of keys of a momentum encoder. The data are
made up: images are noisy prototypes of ten classes, augmented by noise and by
dropping pixels, so that training takes seconds and still has something to learn. A
run that is started again goes on where its bank is.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F

import membank

DIM, CLASSES, SAMPLES = 32, 10, 2000


def data(seed):
    g = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(CLASSES, 128, generator=torch.Generator().manual_seed(7))
    y = torch.randint(0, CLASSES, (SAMPLES,), generator=g)
    nuisance = torch.randn(SAMPLES, 8, generator=g) @ torch.randn(8, 128, generator=torch.Generator().manual_seed(8))
    return prototypes[y] + 1.5 * nuisance + 0.5 * torch.randn(SAMPLES, 128, generator=g), y


def augment(x):
    """Two views of a sample share its class, and little else: the nuisance is drawn anew."""
    nuisance = torch.randn(len(x), 8) @ torch.randn(8, 128, generator=torch.Generator().manual_seed(8))
    return (x + 1.5 * nuisance + 0.5 * torch.randn_like(x)) * (torch.rand_like(x) > 0.2)


def encoder():
    return torch.nn.Sequential(torch.nn.Linear(128, 128), torch.nn.ReLU(), torch.nn.Linear(128, DIM))


def batches(n, size):
    return torch.randperm(n).split(size)


@torch.no_grad()
def score(client, name, net, train, test):
    """kNN accuracy on the server, of features that stay there under NAME."""
    callback = membank.BankCallback(client, name, k=20)
    with callback.collect(0) as add:
        add("train", F.normalize(net(train[0])), train[1])
        add("test", F.normalize(net(test[0])), test[1])
    return callback.history[-1]["top1"]


def inst_disc(client, train, epochs=10, batch=100, negatives=256, t=0.1, keep_old=0.5):
    torch.manual_seed(1)
    x, _ = train
    net = encoder()
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    bank = client.slots("demo/npid", rows=len(x), dim=DIM, init="uniform", seed=1)
    step = bank.info()["step"]
    for _ in range(epochs):
        for ids in batches(len(x), batch):
            step += 1
            z = F.normalize(net(augment(x[ids])))
            # One request: the slots of the batch and of the noise as they were before
            # it, and then the batch is mixed in.
            noise = bank.sample(negatives, step=step)[0]
            before = bank.update(ids.numpy(), z.detach().numpy(), keep_old=keep_old, step=step, gather=np.concatenate([ids.numpy(), noise]))
            rows = torch.from_numpy(before["rows"].copy())
            own, others = rows[:len(ids)], rows[len(ids):]
            logits = torch.cat([(z * own).sum(1, keepdim=True), z @ others.T], 1) / t
            loss = F.cross_entropy(logits, torch.zeros(len(ids), dtype=torch.long))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    bank.checkpoint(step)  # bank demo/npid/step-N: query it, evaluate it, export it
    return net


def moco(client, train, epochs=10, batch=100, rows=1000, t=0.2, momentum=0.99):
    torch.manual_seed(2)
    x, _ = train
    net, keys = encoder(), encoder()
    keys.load_state_dict(net.state_dict())
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    queue = client.queue("demo/moco", rows=rows, dim=DIM, wrap="assert", seed=2)
    step = queue.info()["step"]
    for _ in range(epochs):
        for ids in batches(len(x), batch):
            step += 1
            q = F.normalize(net(augment(x[ids])))
            with torch.no_grad():
                for p, k in zip(net.parameters(), keys.parameters()):
                    k.mul_(momentum).add_(p, alpha=1 - momentum)
                k = F.normalize(keys(augment(x[ids])))
            # The queue as it was before this batch, its random initial rows included.
            before = queue.push(k.numpy(), step=step, read=True, scope="all")
            logits = torch.cat([(q * k).sum(1, keepdim=True), q @ torch.from_numpy(before["rows"].copy()).T], 1) / t
            loss = F.cross_entropy(logits, torch.zeros(len(ids), dtype=torch.long))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net


def main(url):
    torch.set_num_threads(2)
    train, test = data(0), data(1)
    with membank.Client(url) as client:
        torch.manual_seed(0)
        untrained = score(client, "demo/untrained", encoder(), train, test)
        print("untrained: kNN top-1 %.1f %%" % (100 * untrained))
        for name, run in (("InstDisc", inst_disc), ("MoCo", moco)):
            top1 = score(client, "demo/" + name.lower(), run(client, train), train, test)
            print("%s: kNN top-1 %.1f %% %s" % (name, 100 * top1, "learnt" if top1 > untrained + 0.15 else "did not learn"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7700")
