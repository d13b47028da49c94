"""The search that users of NumPy and PyTorch write themselves, and FAISS's Python
module, behind the requests that ../faiss/driver.cpp describes.

    driver.py numpy|torch|FACTORY GALLERY.f32 ROWS DIM QUERIES.f32 COUNT THREADS

numpy and torch compute topk(queries @ gallery.T), some queries at a time as DINO's
evaluation does ("set chunk N"). Anything else is an index of FAISS by its factory
string ("Flat", "IVF2048,Flat", "HNSW32").
"""
import ctypes
import json
import sys
import time


class Numpy:
    def __init__(self, gallery, threads):
        import numpy
        self.np, self.gallery, self.chunk = numpy, gallery, 64
        self.version, self.level = numpy.__version__, blas_name(numpy)

    def search(self, queries, k):
        np = self.np
        ids = np.empty((len(queries), k), np.int64)
        for i in range(0, len(queries), self.chunk):
            scores = queries[i:i + self.chunk] @ self.gallery.T
            if k < scores.shape[1]:
                best = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]
            else:
                best = np.broadcast_to(np.arange(k), scores.shape)
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
            ids[i:i + self.chunk] = np.take_along_axis(best, order, 1)
        return ids

    def set(self, name, value):
        setattr(self, name, value)


class Torch:
    def __init__(self, gallery, threads):
        import torch
        torch.set_num_threads(threads)
        self.torch, self.gallery, self.chunk = torch, torch.from_numpy(gallery).T, 64
        self.version, self.level = torch.__version__, torch.backends.cpu.get_cpu_capability()

    def search(self, queries, k):
        parts = [(q @ self.gallery).topk(k, largest=True, sorted=True).indices
                 for q in self.torch.from_numpy(queries).split(self.chunk)]
        return self.torch.cat(parts).numpy()

    def set(self, name, value):
        setattr(self, name, value)


class Faiss:
    def __init__(self, gallery, threads, factory):
        import faiss
        faiss.omp_set_num_threads(threads)
        self.faiss = faiss
        self.version, self.level = faiss.__version__, "generic build"
        if hasattr(faiss, "get_compile_options"):
            self.level = faiss.get_compile_options().strip()
        self.index = faiss.index_factory(gallery.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if isinstance(self.index, faiss.IndexIVF):
            self.index.cp.spherical = True
        if isinstance(self.index, faiss.IndexHNSW):
            self.index.hnsw.efConstruction = 200
        self.index.train(gallery)
        self.index.add(gallery)

    def search(self, queries, k):
        return self.index.search(queries, k)[1]

    def set(self, name, value):
        if name == "openmp":
            self.faiss.omp_set_num_threads(value)
        elif name == "blas":
            for library in ("libopenblas.so.0", "libopenblas.so"):
                try:
                    ctypes.CDLL(library).openblas_set_num_threads(value)
                    return
                except (OSError, AttributeError):
                    pass
        else:
            self.faiss.ParameterSpace().set_index_parameter(self.index, name, value)


def blas_name(numpy):
    """What multiplies matrices: OpenBLAS names its kernels, others name themselves."""
    try:
        for line in open("/proc/self/maps"):
            path = line.split()[-1]
            if "blas" in path or "mkl" in path:
                library = ctypes.CDLL(path)
                for suffix in ("", "64_"):
                    corename = getattr(library, "openblas_get_corename" + suffix, None)
                    if corename:
                        corename.restype = ctypes.c_char_p
                        return "OpenBLAS " + corename().decode()
                if "mkl" in path:
                    return "MKL"
    except OSError:
        pass
    return "BLAS of NumPy"


def main():
    kind, gallery, rows, dim, queries, count, threads = sys.argv[1:8]
    rows, dim, count, threads = int(rows), int(dim), int(count), int(threads)
    import numpy
    gallery = numpy.fromfile(gallery, "<f4", rows * dim).reshape(rows, dim)
    queries = numpy.fromfile(queries, "<f4", count * dim).reshape(count, dim)
    begin = time.perf_counter()
    if kind == "numpy":
        engine, name, index = Numpy(gallery, threads), "numpy", "topk(q @ x.T)"
    elif kind == "torch":
        engine, name, index = Torch(gallery, threads), "torch", "topk(q @ x.T)"
    else:
        engine, name, index = Faiss(gallery, threads, kind), "faiss (python)", kind
    say(name=name, version=engine.version, level=engine.level, index=index,
        build_seconds=time.perf_counter() - begin)
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "batch":
            k, n = int(words[0]), int(words[1])
            begin = time.perf_counter()
            ids = engine.search(queries[:n], k)
            seconds = time.perf_counter() - begin
            ids.astype("<i8").tofile(words[2])
            say(seconds=seconds)
        elif verb == "single":
            k, n, first = map(int, words)
            calls = []
            for i in range(first, first + n):
                at = i % count
                begin = time.perf_counter()
                engine.search(queries[at:at + 1], k)
                calls.append(time.perf_counter() - begin)
            say(calls=calls)
        elif verb == "set":
            engine.set(words[0], int(words[1]))
            say(seconds=0)
        else:
            sys.exit("no such request: " + line)


def say(**answer):
    print(json.dumps(answer), flush=True)


main()
