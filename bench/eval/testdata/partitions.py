"""Makes the .npy files beside it: the partitions behind the k-means figures of the
reference data that the data does not store, from the same versions of the same code
(scikit-learn 1.2.1, FAISS 1.7.3 on a processor with AVX-512).

    python3 partitions.py DATA

Each file is uint8 labels, of one run after another: of scikit-learn the figure's run,
then single runs of seeds 0, 1, … as far as the reference's smallest and largest inertia
need them; of FAISS the runs of all seeds. scikit-learn's inertias have to be the
reference's to the last bit (which one thread gives), and the normalised mutual
information of every figure's run with the classes is, to 1e-9.
"""
import json, os, sys

os.environ["OMP_NUM_THREADS"] = "1"
import faiss, numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score as nmi

data, here = sys.argv[1], os.path.dirname(os.path.abspath(__file__))
classes = np.load(data + "/train_labels.npy")


def write(name, runs, at, figures):
    theirs, ours = figures["nmi_arithmetic"], nmi(classes[: len(runs[at])], runs[at])
    if abs(theirs - ours) > 1e-9:
        sys.exit(f"{name}: NMI is {ours}, the reference's {theirs}")
    np.save(os.path.join(here, name + ".npy"), np.concatenate(runs).astype(np.uint8))


def scikit(name, x, k, figures):
    fit = lambda n, seed: KMeans(n_clusters=k, n_init=n, random_state=seed).fit(x)
    runs, single = [fit(figures["n_init"], 0)], figures.get("single_run_inertia")
    theirs = [figures["inertia"]]
    if single:
        theirs += [single["min"], single["max"]]
        runs += [fit(1, seed) for seed in range(1 if single["min"] == single["max"] else 3)]
    inertias = [r.inertia_ for r in runs]
    ours = inertias[:1] + ([min(inertias[1:]), max(inertias[1:])] if single else [])
    if ours != theirs:
        sys.exit(f"{name}: the inertias are {ours}, the reference's {theirs}")
    write(name, [r.labels_ for r in runs], 0, figures)


def spherical(name, x, k, figures):
    runs = []
    for seed in range(figures["seeds_tried"]):
        run = faiss.Kmeans(x.shape[1], k, niter=50, spherical=True, seed=seed, max_points_per_centroid=len(x))
        run.train(x)
        runs.append(run.index.search(x, 1)[1][:, 0])
    write(name, runs, figures["best_seed"], figures)


for file in sorted(os.listdir(data + "/reference")):
    method = file.removesuffix(".json")
    folder = data if method == "simclr_last" else f"{data}/methods/{method}"
    if method == file or not os.path.exists(folder + "/train_features.npy"):
        continue
    raw = np.load(folder + "/train_features.npy").astype(np.float32)
    wide = raw.astype(np.float64)
    unit = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    sections = json.load(open(f"{data}/reference/{file}"))["kmeans"]
    for k in (10, 100):
        section = sections[f"k{k}"]
        scikit(f"{method}_k{k}_sklearn", unit, k, section["sklearn_kmeans_on_normalised"])
        if "sklearn_kmeans_on_raw" in section:
            scikit(f"{method}_k{k}_sklearn_raw", raw, k, section["sklearn_kmeans_on_raw"])
        if method in ("collapsed", "nostopgrad_mild"):
            spherical(f"{method}_k{k}_faiss", unit, k, section["faiss_spherical"])
