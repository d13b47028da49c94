"""Client of a membank server: numpy and the standard library, one file.

    membank serve                                  # elsewhere, or in another shell
    membank python-client > membank.py             # this file, of the server's version

    import membank
    with membank.Client("http://127.0.0.1:7700") as client:
        client.ingest("simclr/train", features, labels=labels, keys=paths)
        rows, scores = client.query("simclr/train", test_features, k=20)
        print(client.evaluate_knn("simclr/train", "simclr/test")["results"])

        bank = client.slots("npid", rows=50_000, dim=128, init="uniform")
        negatives = bank.update(ids, z, keep_old=0.5, step=step, negatives=4096)

        queue = client.queue("moco", rows=65_536, dim=128)
        queue.push(keys, step=step)

Arrays are numpy arrays, or whatever numpy.asarray takes: torch tensors on the CPU
are (detach them first). Errors of the server are exceptions of this module, whose
message says what is wrong and what to do; nothing was changed when one is raised,
but for ConnectionLost, after which that is not known. A Client belongs to one
thread, or one process: make one for each; the server is what they share.
"""

import functools
import http.client
import io
import json
import os
import select
import socket
import struct
import time
import urllib.parse
import zlib

import numpy as np

__all__ = ["Client", "Bank", "Slots", "Queue", "BankCallback", "Error", "BadInput", "BadRequest", "Conflict",
           "ConnectionLost", "NotFound", "Overloaded", "ServerError", "Unauthorized", "evaluate_knn"]


class Error(Exception):
    """What a server refused, and why. code is for programs: "no_such_bank", "bad_row"."""

    def __init__(self, message, code="failure", status=0):
        super().__init__(message)
        self.code, self.status = code, status


class BadRequest(Error):
    """Wrong usage: an option that does not exist or does not fit."""


class BadInput(Error):
    """Bad data: NaN, another dimension, an id out of range, a key that is there already."""


class NotFound(Error):
    """No such bank, key, row or checkpoint."""


class Conflict(Error):
    """In the way of another: the bank exists, or is being written."""


class Unauthorized(Error):
    """The server wants its token, or knows itself by other names."""


class Overloaded(Error):
    """The server is busy or stopping, and was so at every attempt."""


class ServerError(Error):
    """A fault of the server: no space, damage, a bug."""


class ConnectionLost(Error):
    """The server is not there, or went away before it answered."""


_KINDS = {400: BadRequest, 401: Unauthorized, 403: Unauthorized, 404: NotFound, 409: Conflict, 413: BadInput, 415: BadRequest,
          421: Unauthorized, 422: BadInput, 429: Overloaded, 503: Overloaded}


class Client:
    """A connection to a server, kept open between requests.

    token is the server's, if it wants one; else the file that MEMBANK_TOKEN_FILE
    names. timeout is in seconds, for each read from the socket. A request that the
    server was too busy for is sent again up to retries times.
    """

    def __init__(self, url="http://127.0.0.1:7700", token=None, timeout=600.0, retries=5):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError("not the address of a server: %r (write http://127.0.0.1:7700)" % (url,))
        if token is None and os.environ.get("MEMBANK_TOKEN_FILE"):
            with open(os.environ["MEMBANK_TOKEN_FILE"]) as f:
                token = f.read().strip()
        self._make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._headers = {"Host": parts.netloc.rpartition("@")[2]}
        if token:
            if not token.isascii() or not token.isprintable():
                raise ValueError("not a token: it holds blanks or other characters that no header has")
            self._headers["Authorization"] = "Bearer " + token
        self._timeout, self._retries = timeout, retries
        self._connection, self._answers, self._pid = None, None, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._answers.close()
            self._connection.close()
            self._connection = self._answers = None

    # What banks there are.

    def banks(self, prefix=""):
        """The banks whose names begin with prefix: a list of dicts."""
        return self._json("GET", "/v1/banks", {"prefix": prefix or None})

    def show(self, bank):
        """All that is known of a bank without reading its rows."""
        return self._json("GET", _path("banks", bank))

    def remove(self, bank):
        """Delete a bank."""
        return self._json("DELETE", _path("banks", bank))

    def remove_rows(self, bank, keys=None, where=None):
        """Delete the rows of these keys, or those for which an expression holds."""
        if (keys is None) == (where is None):
            raise ValueError("give keys or where")
        body = None if keys is None else _npy(_strings(keys))
        return self._json("POST", _path("banks", bank, "rows/delete"), {"where": where}, body)

    # Rows.

    def ingest(self, bank, features, labels=None, keys=None, class_names=None, attributes=None, append=False, replace=False,
               dtype=None, skip_bad=False, codes=True):
        """Put rows into a bank, in one step: all of them are there to stay, or none.

        features is [n, dim], float16, float32 or float64; labels are integers (-1 for
        none), of which class_names are the names, or names; keys are strings, by
        default the row numbers; attributes maps names to n values (None for none).
        """
        features = np.asarray(features)
        n = len(features)
        arrays = []
        if class_names is not None:
            arrays.append(("class_names", _strings(class_names)))
        if labels is not None:
            labels = np.asarray(labels)
            arrays.append(("labels", labels if labels.dtype.kind in "iub" else _strings(labels)))
        if keys is not None:
            arrays.append(("keys", _strings(keys)))
        if attributes:
            columns = {name: [_plain(v) for v in values] for name, values in attributes.items()}
            for name, values in columns.items():
                if len(values) != n:
                    raise ValueError("attribute %r has %d values for %d rows" % (name, len(values), n))
            arrays.append(("attributes", _strings([json.dumps({k: v[i] for k, v in columns.items()}) for i in range(n)])))
        arrays.append(("features", features))
        parameters = {"append": append or None, "replace": replace or None, "dtype": dtype, "skip-bad": skip_bad or None,
                      "no-codes": None if codes else True}
        return self._json("POST", _path("banks", bank, "rows"), parameters, _npz(arrays))

    def get(self, bank, rows=None, keys=None):
        """Rows by number or by key, in the order asked for: a list of dicts."""
        if (rows is None) == (keys is None):
            raise ValueError("give rows or keys")
        parameters = {"rows": None if rows is None else _list(rows), "key": None if keys is None else [str(k) for k in keys]}
        return self._json("GET", _path("banks", bank, "rows"), parameters)

    def query(self, bank, vectors=None, k=10, rows=None, keys=None, from_bank=None, metric="cosine", where=None, min_score=None,
              exclude_self=False, nprobe=None, recall=None):
        """The k nearest rows of each query: (rows int64 [q, k], scores float32 [q, k]).

        Queries are vectors [q, dim], or rows of the bank by number or key, or all rows
        of another bank. Answers are exact unless nprobe or recall is given. Where a
        query has fewer than k neighbours rows hold -1 and scores NaN.
        """
        if sum(x is not None for x in (vectors, rows, keys, from_bank)) != 1:
            raise ValueError("ask with one of vectors, rows, keys, from_bank")
        parameters = {"k": k, "metric": metric, "where": where, "min-score": min_score, "exclude-self": exclude_self or None,
                      "nprobe": nprobe, "recall": recall, "row": None if rows is None else _list(rows),
                      "key": None if keys is None else [str(key) for key in keys], "from": from_bank, "output": "answer.npz"}
        answer = self._arrays("POST", _path("banks", bank, "query"), parameters, None if vectors is None else _npy(_floats(vectors)))
        return answer["rows"], answer["scores"]

    def evaluate_knn(self, train, test=None, k=None, temperature=None, protocol=None, leave_one_out=False, per_class=False):
        """kNN accuracy under a protocol of the field ("dino", "lightly", ...): a dict whose
        results hold k, T, top1 and top5, accuracies in 0..1."""
        parameters = {"train": train, "test": test, "k": None if k is None else _list(np.atleast_1d(k)), "T": temperature,
                      "protocol": protocol, "leave-one-out": leave_one_out or None, "per-class": per_class or None}
        return self._json("POST", "/v1/eval/knn", parameters)

    def evaluate(self, name, **parameters):
        """Any evaluation of the server by its name ("retrieval", "fewshot", ...), with its
        flags as parameters, - written as _."""
        return self._json("POST", "/v1/eval/" + name, {k.replace("_", "-"): v for k, v in parameters.items()})

    # Memory banks of training runs.

    def memory_banks(self):
        """The names of the memory banks."""
        return self._json("GET", "/v1/memory")

    def slots(self, name, rows=None, dim=None, init=None, seed=0, vectors=None, labels=None, prototypes=None, ranks=None, from_bank=None,
              replace=False, exist_ok=True):
        """Open a bank of slots, making it first if it is not there and rows and dim, vectors
        or from_bank are given. dim is one number, or a list of one a view (CMC: [128, 128])."""
        parameters = {"rows": rows, "dim": None if dim is None else _list(np.atleast_1d(dim)), "init": init, "seed": seed,
                      "prototypes": prototypes, "ranks": ranks, "from": from_bank, "replace": replace or None}
        arrays = [] if vectors is None else _views(vectors)
        if labels is not None:
            arrays.append(("labels", np.asarray(labels, np.int64)))
        return self._bank(Slots, "slots", name, rows is not None or vectors is not None or from_bank is not None, parameters, arrays, replace, exist_ok)

    def queue(self, name, rows=None, dim=None, init=None, seed=0, wrap=None, order=None, replace=False, exist_ok=True):
        """Open a queue, making it first if it is not there and rows and dim are given. wrap
        is modulo, assert, drop-tail or bounded; order is ring or shift."""
        parameters = {"kind": "queue", "rows": rows, "dim": None if dim is None else _list(np.atleast_1d(dim)), "init": init, "seed": seed,
                      "wrap": wrap, "order": order, "replace": replace or None}
        return self._bank(Queue, "queue", name, rows is not None, parameters, [], replace, exist_ok)

    def _bank(self, kind, word, name, make, parameters, arrays, replace, exist_ok):
        bank = kind(self, name)
        if make:
            try:
                self._json("POST", _path("memory", name), parameters, _npz(arrays) if arrays else None)
                return bank
            except Conflict as e:
                if e.code != "bank_exists" or not exist_ok or replace:
                    raise
        config = bank.info()["config"]
        if config["kind"] != word:
            raise BadRequest("memory bank %r is a bank of %s, not of %s" % (name, config["kind"], word), "usage")
        wanted = parameters["dim"]
        if make and (parameters["rows"] not in (None, config["rows"]) or wanted not in (None, _list([v["dim"] for v in config["views"]]))):
            raise Conflict("memory bank %r exists with %d rows of %s dimensions (name another, or give replace=True)"
                           % (name, config["rows"], _list([v["dim"] for v in config["views"]])), "bank_exists")
        return bank

    # HTTP.

    def _json(self, method, path, parameters=None, body=None):
        text, _ = self._ask(method, path, parameters, body, "application/json")
        return json.loads(bytes(text))

    def _arrays(self, method, path, parameters, body):
        data, _ = self._ask(method, path, parameters, body, "application/x-npz")
        return _read_npz(data)

    def _ask(self, method, path, parameters=None, body=None, accept="application/json"):
        pairs = []
        for name, value in (parameters or {}).items():
            for v in value if isinstance(value, list) else [value]:
                if v is not None:
                    pairs.append((name, {True: "true", False: "false"}.get(v, str(v)) if isinstance(v, bool) else str(v)))
        if pairs:
            path += "?" + urllib.parse.urlencode(pairs)
        headers = dict(self._headers, Accept=accept)
        pieces = []
        if body is not None:
            pieces = body if isinstance(body, list) else [body]
            headers["Content-Type"] = "application/octet-stream"
            headers["Content-Length"] = str(sum(len(p) for p in pieces))
        elif method == "POST":
            headers["Content-Length"] = "0"
        for attempt in range(self._retries + 1):
            status, answer, data = self._once(method, path, headers, pieces)
            if status == 200:
                return data, answer
            error = _error(status, data)
            if not isinstance(error, Overloaded) or attempt == self._retries:
                raise error
            time.sleep(min(10.0, float(answer.get("retry-after", 1)) * (1 + 0.25 * attempt)))

    def _once(self, method, path, headers, pieces):
        """One request. A kept connection that the server has closed meanwhile is replaced
        before anything is sent; after that only a GET is sent again, as whether an update
        was done is not known."""
        if self._pid != os.getpid():  # a fork must not share its parent's socket
            self._connection, self._answers, self._pid = None, None, os.getpid()
        if self._connection is not None and self._stale():
            self.close()
        for attempt in range(2):
            kept = self._connection is not None
            try:
                return self._exchange(method, path, headers, pieces)
            except (OSError, http.client.HTTPException) as e:
                self.close()
                if kept and method == "GET" and attempt == 0:
                    continue
                raise ConnectionLost("no answer from the server at %s:%s: %s (is it running? membank serve starts it)"
                                     % (self._host, self._port, e or type(e).__name__), "lost") from e

    def _stale(self):
        """Whether the server has closed the idle connection: it has something to read."""
        sock = self._connection.sock
        return sock is None or bool(select.select([sock], [], [], 0)[0])

    def _exchange(self, method, path, headers, pieces):
        """Send a request and read its answer: status, headers in lower case, body. http.client
        makes the connection; its answers are not read by it, as it takes longer over their
        headers than the server over a small update."""
        if self._connection is None:
            connection = self._make(self._host, self._port, timeout=self._timeout)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connection, self._answers = connection, connection.sock.makefile("rb", 1 << 16)
        lines = ["%s %s HTTP/1.1" % (method, path)] + ["%s: %s" % header for header in headers.items()]
        pieces = ["\r\n".join(lines + ["", ""]).encode("ascii")] + pieces
        try:
            if sum(map(len, pieces)) <= 1 << 20:
                pieces = [b"".join(pieces)]
            for piece in pieces:
                self._connection.sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server may have answered before it had read all
        status, headers = self._read_head()
        data, ends = self._read_body(status, headers)
        if ends or headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, data

    def _read_head(self):
        """Status and headers, past those of answers that only say that one will come."""
        while True:
            words = self._read_line().split(None, 2)
            if len(words) < 2 or not words[0].startswith("HTTP/1.") or len(words[1]) != 3 or not words[1].isdigit():
                raise http.client.BadStatusLine(" ".join(words))
            status, headers = int(words[1]), {}
            while True:
                line = self._read_line()
                if not line:
                    break
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
                if len(headers) > 100:
                    raise http.client.HTTPException("too many headers")
            if status >= 200:
                return status, headers

    def _read_line(self):
        line = self._answers.readline(65537)
        if not line.endswith(b"\n"):
            raise http.client.RemoteDisconnected("it closed the connection") if len(line) < 65537 else http.client.LineTooLong("answer")
        return line.decode("latin-1").rstrip("\r\n")

    def _read_body(self, status, headers):
        """The body, and whether the connection ended with it."""
        if headers.get("transfer-encoding", "").lower() == "chunked":  # not of the server, but of a proxy before it
            pieces = []
            while True:
                size = _number(self._read_line().partition(";")[0], 16)
                if size == 0:
                    break
                pieces.append(self._read(size))
                self._read_line()
            while self._read_line():
                pass
            return memoryview(b"".join(pieces)), False
        if status in (204, 304):
            return memoryview(b""), False
        if "content-length" not in headers:
            return memoryview(self._answers.read()), True
        return self._read(_number(headers["content-length"], 10)), False

    def _read(self, size):
        """So many bytes, in memory of their own: arrays over them can be written."""
        data, at = memoryview(np.empty(size, np.uint8)), 0
        while at < size:
            n = self._answers.readinto(data[at:])
            if not n:
                raise http.client.IncompleteRead(b"", size - at)
            at += n
        return data


class Bank:
    """A memory bank on the server: Slots or a Queue. It may be used in a with statement,
    which does nothing but name it."""

    def __init__(self, client, name):
        self.client, self.name = client, name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __repr__(self):
        return "%s(%r)" % (type(self).__name__, self.name)

    def info(self):
        """Configuration, counts, ages of rows, checkpoints."""
        return self.client._json("GET", _path("memory", self.name))

    def get(self, ids=None, scope=None):
        """Rows: a dict of ids, rows [n, dim], view_1, ... and, where there are any, step,
        labels and keys. ids None is all of them."""
        body = None if ids is None else _npz([("ids", _ids(ids))])
        return self.client._arrays("POST", _path("memory", self.name, "get"), {"scope": scope, "output": "rows.npz"}, body)

    def sample(self, n, step=0, rank=0, positives=None, positive_first=False, exclude_positive=False, exclude=None, weights=None,
               anchors=None, distinct=False, scope=None):
        """Ids of negatives, int64 [anchors, n]: drawn with replacement, equal for equal
        seed, step, rank and options."""
        parameters = {"n": n, "step": step, "rank": rank, "positive-first": positive_first or None, "exclude-positive": exclude_positive or None,
                      "anchors": anchors, "distinct": distinct or None, "scope": scope, "output": "ids.npy"}
        arrays = [(name, value) for name, value in (("positives", positives), ("exclude", exclude)) if value is not None]
        arrays = [(name, _ids(value)) for name, value in arrays]
        if weights is not None:
            arrays.append(("weights", np.asarray(weights, np.float64)))
        data, _ = self.client._ask("POST", _path("memory", self.name, "sample"), parameters, _npz(arrays) if arrays else None)
        return _read_npy(data)[0]

    def nearest(self, vectors, k=10, metric="cosine", view=None, scope=None, min_score=None, with_vectors=False, hard=False, positives=None,
                labels=None, below=None):
        """The nearest rows, exactly: a dict of rows [q, k], scores [q, k], labels where there
        are any, and with with_vectors the rows themselves, vectors [q, k, dim] (NNCLR, MSF).
        With hard: the nearest that are no positives (see membank bank nearest --help)."""
        parameters = {"k": k, "metric": metric, "view": view, "scope": scope, "min-score": min_score, "with-vectors": with_vectors or None,
                      "hard": hard or None, "output": "near.npz"}
        arrays = [("vectors", _floats(vectors))]
        if positives is not None:
            arrays.append(("positives", _ids(positives)))
        if labels is not None:
            arrays.append(("labels", _ids(labels)))
        if below is not None:
            arrays.append(("below", np.asarray(below, np.float64)))
        return self.client._arrays("POST", _path("memory", self.name, "nearest"), parameters, _npz(arrays))

    def query(self, vectors, k=10, **options):
        """(rows int64 [q, k], scores float32 [q, k]), as Client.query answers."""
        answer = self.nearest(vectors, k, **options)
        return answer["rows"], answer["scores"]

    def loss(self, vectors, positives, n=4096, kind="nce", temperature=0.07, step=0, z=None):
        """NCE ("nce": z is "first", "ema" or a number), InfoNCE ("infonce") or full softmax
        ("softmax") of a batch against the bank, computed on the server: a dict of loss,
        each, accuracy and, of NCE, z, which the bank keeps. For the gradient, sample and get instead."""
        parameters = {"n": None if kind == "softmax" else n, "kind": kind, "T": temperature, "step": step, "z": z if kind == "nce" else None}
        return self.client._json("POST", _path("memory", self.name, "loss"), parameters, _npz([("vectors", _floats(vectors)), ("positives", _ids(positives))]))

    def assign(self, vectors, prototypes=None, queue=None, epsilon=None, iterations=None):
        """SwAV's assignments of a batch to prototypes, float64 [n, prototypes], rows adding up
        to 1. prototypes [K, dim], or None: those kept with slots. The rows of a queue take
        part as queue says: "full" (once it is full, the default), "written" or "none"."""
        parameters = {"queue": queue, "epsilon": epsilon, "iterations": iterations, "output": "q.npy"}
        arrays = [("vectors", _floats(vectors))] + ([] if prototypes is None else [("prototypes", _floats(prototypes))])
        data, _ = self.client._ask("POST", _path("memory", self.name, "assign"), parameters, _npz(arrays))
        return _read_npy(memoryview(data))[0]

    def smooth(self, vectors, probabilities, method="comatch", temperature=None, alpha=None, threshold=None, scope=None):
        """Class probabilities smoothed by similar rows (CoMatch, SimMatch): a dict of
        probabilities float64 [n, classes], classes, accepted, and of simmatch ids and
        instance [n, ids]. CoMatch wants a queue of two views, dim=[D, classes]."""
        parameters = {"method": method, "T": temperature, "alpha": alpha, "threshold": threshold, "scope": scope, "output": "p.npz"}
        return self.client._arrays("POST", _path("memory", self.name, "smooth"), parameters,
                                   _npz([("vectors", _floats(vectors)), ("probabilities", _floats(probabilities))]))

    def transform(self, queries, keys, step=0, alpha_positive=None, alpha_negative=None, uniform=False, elementwise=None, renormalise=False, scope=None):
        """Extrapolated positives and interpolated negatives (FT), for logits only: a dict of
        queries, keys, negatives, lambda, beta and permutation."""
        parameters = {"step": step, "alpha-positive": alpha_positive, "alpha-negative": alpha_negative, "uniform": uniform or None,
                      "elementwise": elementwise, "renormalise": renormalise or None, "scope": scope, "output": "ft.npz"}
        return self.client._arrays("POST", _path("memory", self.name, "transform"), parameters,
                                   _npz([("vectors", _floats(queries)), ("other", _floats(keys))]))

    def consistency(self, vectors, other, kind="co2", temperature=None, key_temperature=None, alpha=None, scope=None):
        """CO2, ReSSL ("ressl": vectors are queries, other the keys) or ReLIC ("relic") of two
        views of a batch, computed on the server: a dict with loss."""
        parameters = {"kind": kind, "T": temperature, "key-T": key_temperature, "alpha": alpha, "scope": scope}
        return self.client._json("POST", _path("memory", self.name, "consistency"), parameters,
                                 _npz([("vectors", _floats(vectors)), ("other", _floats(other))]))

    def concentrations(self, labels=None, centroids=None, temperature=None):
        """PCL's temperatures of clusters, float64 [clusters]: labels of all rows and centroids,
        or those of the bank."""
        arrays = ([] if labels is None else [("labels", _ids(labels))]) + ([] if centroids is None else [("prototypes", _floats(centroids))])
        data, _ = self.client._ask("POST", _path("memory", self.name, "concentrations"), {"T": temperature, "output": "phi.npy"}, _npz(arrays) if arrays else None)
        return _read_npy(memoryview(data))[0]

    def prototype_loss(self, vectors, own, concentrations, n=16384, centroids=None, step=0):
        """PCL's loss of a batch with its own prototypes and n negative ones: a dict of loss,
        each and accuracy."""
        arrays = [("vectors", _floats(vectors)), ("positives", _ids(own)), ("concentrations", np.asarray(concentrations, np.float64))]
        if centroids is not None:
            arrays.append(("prototypes", _floats(centroids)))
        return self.client._json("POST", _path("memory", self.name, "loss"), {"kind": "prototype", "n": n, "step": step}, _npz(arrays))

    def checkpoint(self, step=None):
        """Name the state by a step (None: the newest): it lies in bank NAME/step-N then."""
        return self.client._json("POST", _path("memory", self.name, "checkpoint"), {"step": step})

    def restore(self, step):
        """Bring the bank back to the checkpoint of a step."""
        return self.client._json("POST", _path("memory", self.name, "restore"), {"step": step})

    def drop(self):
        """Delete the bank and its checkpoints."""
        return self.client._json("DELETE", _path("memory", self.name))


class Slots(Bank):
    """Rows that a training loop overwrites by id (InstDisc, NPID, PIRL, CMC, ODC)."""

    def update(self, ids, vectors, keep_old=0.0, step=None, labels=None, renorm=None, compound=False, durability="log", gather=None, negatives=None):
        """slot = renorm(keep_old * old + (1 - keep_old) * new), for vectors [n, dim] or one
        such array a view.

        durability says what the update survives when this returns: "memory" (nothing yet),
        "log" (a killed server) or "sync" (a power cut). With gather (ids) or negatives (a
        number) other rows are read in the same step, as they were before: a dict as of
        get. Else a dict of what was written.
        """
        parameters = {"keep-old": keep_old, "step": step, "renorm": renorm, "compound": compound or None, "durability": durability, "negatives": negatives}
        arrays = [("ids", _ids(ids))] + _views(vectors)
        if labels is not None:
            arrays.append(("labels", _ids(labels)))
        path = _path("memory", self.name, "update")
        if gather is None and negatives is None:
            return self.client._json("POST", path, parameters, _npz(arrays))
        if gather is not None:
            arrays.append(("gather", _ids(gather)))
        parameters["output"] = "before.npz"
        return self.client._arrays("POST", path, parameters, _npz(arrays))


    def recluster(self, heads, epoch=0, iterations=None, samples=None, total=None, absent=None):
        """DeepCluster-v2's spherical k-means over the rows written: a dict of labels int64
        [heads, samples] (absent, -100, where a sample has no slot) and centroids_0, ..."""
        parameters = {"heads": _list(np.atleast_1d(heads)), "epoch": epoch, "iterations": iterations, "total": total, "absent": absent, "output": "heads.npz"}
        return self.client._arrays("POST", _path("memory", self.name, "recluster"), parameters, None if samples is None else _npz([("samples", _ids(samples))]))

    def odc_start(self, labels, durability="log"):
        """Give all slots the labels of a first clustering; prototypes become their means."""
        return self.client._json("POST", _path("memory", self.name, "odc-start"), {"durability": durability}, _npz([("labels", _ids(labels))]))

    def odc(self, ids, vectors, keep_old=0.5, min_cluster=None, centroids_every=None, step=None, weights=False, durability="log"):
        """One step of online deep clustering: a dict of labels, change_ratio, dissolved, moved,
        empty, smallest, largest, step, and with weights those of clusters in the loss."""
        parameters = {"keep-old": keep_old, "min-cluster": min_cluster, "centroids-every": centroids_every, "step": step,
                      "loss-weights": weights or None, "durability": durability}
        return self.client._json("POST", _path("memory", self.name, "odc"), parameters, _npz([("ids", _ids(ids)), ("vectors", _floats(vectors))]))

    def prototypes(self):
        """The centroids kept with the slots, [prototypes, dim]."""
        return self.client._arrays("POST", _path("memory", self.name, "get"), {"centroids": True, "output": "rows.npz"}, None)["rows"]


class Queue(Bank):
    """Rows that are written in turn (MoCo, NNCLR, MSF, ReSSL, SwAV, XBM)."""

    def push(self, vectors, step=None, labels=None, keys=None, durability="log", read=False, scope=None):
        """Write a batch at the cursor. With read the queue as it was before comes back, a dict
        as of get (MoCo's logits); else a dict of what was written."""
        parameters = {"step": step, "durability": durability, "scope": scope}
        arrays = _views(vectors)
        if labels is not None:
            arrays.append(("labels", _ids(labels)))
        if keys is not None:
            arrays.append(("keys", _strings(keys)))
        path = _path("memory", self.name, "push")
        if not read:
            return self.client._json("POST", path, parameters, _npz(arrays))
        parameters["output"] = "before.npz"
        return self.client._arrays("POST", path, parameters, _npz(arrays))

    def ordered(self):
        """The rows that were pushed, oldest first."""
        return self.client._arrays("POST", _path("memory", self.name, "get"), {"ordered": True, "output": "rows.npz"}, None)


class BankCallback:
    """What a plain training loop calls: it keeps features of validation and scores them.

        callback = BankCallback(client, "run7", every=5)
        for epoch in range(100):
            train(...)
            if callback.due(epoch):
                with callback.collect(epoch) as add:
                    for x, y in train_loader: add("train", encoder(x).detach(), y)
                    for x, y in test_loader: add("test", encoder(x).detach(), y)
                print(callback.history[-1])       # {"epoch": 5, "top1": ..., "k": 20}

    Banks are called NAME/eEPOCH/train and .../test, so every epoch can be queried,
    compared and looked at afterwards; keep is how many epochs stay (None: all).
    """

    def __init__(self, client, name, every=1, k=20, protocol="dino", dtype="f16", keep=None):
        self.client, self.name, self.every, self.k, self.protocol, self.dtype, self.keep = client, name, every, k, protocol, dtype, keep
        self.history = []

    def due(self, epoch):
        return epoch % self.every == 0

    def bank(self, epoch, part):
        return "%s/e%03d/%s" % (self.name, epoch, part)

    def collect(self, epoch):
        return _Collecting(self, epoch)

    def _finish(self, epoch, parts):
        for part, (features, labels) in parts.items():
            self.client.ingest(self.bank(epoch, part), np.concatenate(features), labels=np.concatenate(labels), replace=True, dtype=self.dtype)
        test = "test" if "test" in parts else None
        result = self.client.evaluate_knn(self.bank(epoch, "train"), test and self.bank(epoch, test), k=self.k, protocol=self.protocol, leave_one_out=test is None)
        self.history.append({"epoch": epoch, "k": self.k, "top1": result["results"][0]["top1"], "top5": result["results"][0]["top5"]})
        if self.keep is not None and len(self.history) > self.keep:
            old = self.history[-1 - self.keep]["epoch"]
            for part in parts:
                self.client.remove(self.bank(old, part))


class _Collecting:
    def __init__(self, callback, epoch):
        self.callback, self.epoch, self.parts = callback, epoch, {}

    def __enter__(self):
        return self.add

    def add(self, part, features, labels):
        lists = self.parts.setdefault(part, ([], []))
        lists[0].append(np.asarray(features, np.float32))
        lists[1].append(np.asarray(labels, np.int64))

    def __exit__(self, kind, *_):
        if kind is None:
            self.callback._finish(self.epoch, self.parts)


def evaluate_knn(train, train_labels, test, test_labels, url="http://127.0.0.1:7700", k=(10, 20, 100, 200), **options):
    """kNN accuracy of features that are in memory here: they are put into two banks of a
    server, scored, and removed again."""
    name = "tmp/knn-%d-%s" % (os.getpid(), os.urandom(4).hex())
    with Client(url) as client:
        try:
            client.ingest(name + "/train", train, labels=train_labels)
            client.ingest(name + "/test", test, labels=test_labels)
            return client.evaluate_knn(name + "/train", name + "/test", k=k, **options)
        finally:
            for part in ("/train", "/test"):
                try:
                    client.remove(name + part)
                except NotFound:
                    pass


# Arrays as bytes. An .npz is written and read here and not by numpy, which copies
# every array three times on the way.


def _floats(x):
    x = np.asarray(x)
    if x.dtype.kind != "f":
        x = x.astype(np.float32)
    return x[None, :] if x.ndim == 1 else x


def _views(vectors):
    """One array, or one a view, under the names of the server's flags."""
    views = vectors if isinstance(vectors, (list, tuple)) and len(vectors) and getattr(vectors[0], "ndim", 0) == 2 else [vectors]
    return [("vectors" if i == 0 else "vectors_%d" % i, _floats(v)) for i, v in enumerate(views)]


def _ids(x):
    x = np.asarray(x)
    if x.size and x.dtype.kind not in "iu":
        raise TypeError("ids and labels are integers, not %s" % x.dtype)
    return x.astype(np.int64).reshape(-1)


def _strings(x):
    """Strings as UTF-8 bytes: a quarter of what numpy's own type for strings takes."""
    encoded = [str(s).encode() for s in x]
    for s in encoded:
        if s.endswith(b"\0"):
            raise ValueError("a string ends in a zero byte, which numpy would not keep: %r" % s)
    return np.array(encoded, dtype="S%d" % max(1, max(map(len, encoded), default=1)))


def _plain(v):
    """A value of numpy as JSON has it; NaN is none."""
    v = v.item() if isinstance(v, np.generic) else v
    return None if isinstance(v, float) and v != v else v


def _list(x):
    return ",".join(str(int(i)) if not isinstance(i, str) else i for i in (x.tolist() if isinstance(x, np.ndarray) else x))


def _path(kind, name, rest=""):
    return "/v1/%s/%s%s" % (kind, urllib.parse.quote(name, safe=""), "/" + rest if rest else "")


def _npy_parts(x):
    """Header and elements of an .npy, the elements not copied."""
    x = np.ascontiguousarray(x)
    return _npy_head(x.dtype, x.shape), memoryview(x.reshape(-1).view(np.uint8))


@functools.lru_cache(256)  # a training loop sends the same shapes again and again
def _npy_head(dtype, shape):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    return head.getvalue()


def _npy(x):
    return list(_npy_parts(x))


def _npz(arrays):
    """The pieces of an .npz with the arrays stored in order."""
    pieces, directory, offset = [], [], 0
    for name, x in arrays:
        head, data = _npy_parts(x)
        size, crc, name = len(head) + len(data), zlib.crc32(data, zlib.crc32(head)), (name + ".npy").encode()
        large, far = size >= 0xFFFFFFFF, offset >= 0xFFFFFFFF  # then numbers go to a field of their own
        short = 0xFFFFFFFF if large else size
        extra = _zip64([size, size] if large else [])
        wide = _zip64(([size, size] if large else []) + ([offset] if far else []))
        fields = struct.pack("<HHHHHIIIH", 45, 0, 0, 0, 0x21, crc, short, short, len(name))
        pieces += [b"PK\3\4" + fields + struct.pack("<H", len(extra)) + name + extra, head, data]
        place = 0xFFFFFFFF if far else offset
        directory.append(b"PK\1\2" + struct.pack("<H", 45) + fields + struct.pack("<HHHHII", len(wide), 0, 0, 0, 0, place) + name + wide)
        offset += len(pieces[-3]) + size
    tail = b"".join(directory)
    end = b""
    if offset >= 0xFFFFFFFF:
        end = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, len(directory), len(directory), len(tail), offset)
        end += b"PK\6\7" + struct.pack("<IQI", 0, offset + len(tail), 1)
    place = min(offset, 0xFFFFFFFF)
    return pieces + [tail, end + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, len(directory), len(directory), len(tail), place, 0)]


def _zip64(numbers):
    return struct.pack("<HH%dQ" % len(numbers), 1, 8 * len(numbers), *numbers) if numbers else b""


def _read_npy(data):
    """An array over the bytes, and how many of them it takes."""
    wide = data[6:7] != b"\1"  # from version 2 on the header's length has four bytes
    start = 12 + struct.unpack_from("<I", data, 8)[0] if wide else 10 + struct.unpack_from("<H", data, 8)[0]
    shape, fortran, dtype = _npy_shape(bytes(data[:start]))
    if dtype.hasobject or fortran:
        raise ServerError("the server's answer is no plain array", "bad_answer")
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(data, dtype, count, start).reshape(shape), start + count * dtype.itemsize


@functools.lru_cache(256)
def _npy_shape(head):
    head = io.BytesIO(head)
    version = np.lib.format.read_magic(head)
    return (np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0)(head)


def _read_npz(data):
    """The arrays of an .npz of the server, by name: views of its bytes. Its members are
    stored, and their sizes stand behind them."""
    view, at, arrays = memoryview(data), 0, {}
    while bytes(view[at:at + 4]) == b"PK\3\4":
        flags, = struct.unpack_from("<H", view, at + 6)
        length, extra = struct.unpack_from("<HH", view, at + 26)
        name = bytes(view[at + 30:at + 30 + length]).decode()
        at += 30 + length + extra
        array, size = _read_npy(view[at:])
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8")
        arrays[name[:-4]] = array
        at += size
        if flags & 8:
            at += 16 if size < 0xFFFFFFFF else 24
    if bytes(view[at:at + 4]) not in (b"PK\1\2", b"PK\5\6"):
        raise ServerError("the server's answer ends early", "bad_answer")
    return arrays


def _number(text, base):
    """A length in an answer's head."""
    try:
        n = int(text, base)
    except ValueError:
        n = -1
    if n < 0:
        raise http.client.HTTPException("a length that is none: %.40r" % text)
    return n


def _error(status, data):
    try:
        error = json.loads(bytes(data))["error"]
        message, code = error["message"], error["code"]
    except (ValueError, KeyError, TypeError):
        message, code = "status %d, not as a membank server answers: %.200r" % (status, bytes(data[:200])), "not_a_server"
    return _KINDS.get(status, ServerError)(message, code, status)
