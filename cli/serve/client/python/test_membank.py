"""The client against a real server: python3 test_membank.py URL, as a Go test runs it."""

import io
import socket
import sys
import threading
import unittest
import zipfile

import numpy as np

import membank

URL = None


def naive(queries, gallery, k):
    """Cosines in float64, best first, ties to the smaller row."""
    q = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
    g = gallery / np.maximum(np.linalg.norm(gallery, axis=1, keepdims=True), 1e-12)
    scores = q.astype(np.float64) @ g.astype(np.float64).T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(scores, rows, axis=1)


class Case(unittest.TestCase):
    def setUp(self):
        self.client = membank.Client(URL)
        self.rng = np.random.default_rng(1)
        self.name = "py/%s" % self.id().split(".")[-1]

    def tearDown(self):
        self.client.close()


class Arrays(Case):
    def test_our_npz_is_an_npz(self):
        arrays = [("a", np.arange(6, dtype=np.float32).reshape(2, 3)), ("b", np.array([1, -1])), ("c", membank._strings(["x", "é"])),
                  ("d", np.zeros((0, 4), np.float16)), ("e", np.array([[True], [False]])), ("f", np.arange(6.0).reshape(2, 3).T)]
        data = b"".join(membank._npz(arrays))
        self.assertIsNone(zipfile.ZipFile(io.BytesIO(data)).testzip())
        loaded = np.load(io.BytesIO(data))
        for name, x in arrays:
            np.testing.assert_array_equal(loaded[name], x)
            self.assertEqual(loaded[name].dtype, x.dtype)

    def test_numpys_npz_read(self):
        f = io.BytesIO()
        np.savez(f, rows=np.arange(12).reshape(3, 4), keys=np.array(["a", "bc"]), scores=np.float32([1, np.nan]))
        back = membank._read_npz(f.getvalue())
        np.testing.assert_array_equal(back["rows"], np.arange(12).reshape(3, 4))
        self.assertEqual(back["keys"].tolist(), ["a", "bc"])
        with self.assertRaises((membank.Error, ValueError, IndexError)):
            membank._read_npz(f.getvalue()[:-200])


class Answers(unittest.TestCase):
    """What stands between the client and a server may word an answer otherwise."""

    def answered(self, answer, calls=1):
        """What the client makes of bytes, sent by a server that then closes the connection."""
        listener = socket.create_server(("127.0.0.1", 0))

        def serve():
            connection, _ = listener.accept()
            for _ in range(calls):
                read = b""
                while b"\r\n\r\n" not in read:
                    read += connection.recv(1 << 16)
                for i in range(0, len(answer), 7):  # in small pieces
                    connection.sendall(answer[i:i + 7])
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with membank.Client("http://127.0.0.1:%d" % listener.getsockname()[1], timeout=10) as client:
                return [client.banks() for _ in range(calls)]
        finally:
            thread.join()
            listener.close()

    def test_forms_of_an_answer(self):
        ok = b"HTTP/1.1 200 OK\r\n"
        for answer in (ok + b"Content-Length: 4\r\n\r\n[17]", ok + b"content-length:4\r\nX-A: b:c\r\n\r\n[17]",
                       b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + ok + b"Content-Length: 4\r\n\r\n[17]",
                       ok + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n3;a=b\r\n17]\r\n0\r\nTrailer: x\r\n\r\n"):
            self.assertEqual(self.answered(answer, 2), [[17], [17]])
        self.assertEqual(self.answered(b"HTTP/1.0 200 OK\r\n\r\n[17]"), [[17]])

    def test_broken_answers_are_errors(self):
        ok = b"HTTP/1.1 200 OK\r\n"
        for answer in (b"", b"HTTP/1.1 2", b"SSH-2.0-x\r\n", b"HTTP/1.1 two OK\r\n\r\n", ok + b"Content-Length: 9\r\n\r\n[17]", ok + b"Content-Length: -1\r\n\r\n",
                       ok + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", ok + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[17]", ok + b"X" * 70000, ok + b"X: 1\r\n"):
            with self.assertRaises(membank.ConnectionLost):
                self.answered(answer)
        with self.assertRaises(membank.ServerError):
            self.answered(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")

    def test_tokens_are_one_word(self):
        with self.assertRaises(ValueError):
            membank.Client("http://127.0.0.1:1", token="a\r\nHost: b")


class Banks(Case):
    def test_rows_come_back_bit_for_bit(self):
        x = self.rng.standard_normal((300, 17)).astype(np.float32)
        done = self.client.ingest(self.name, x, labels=np.arange(300) % 7 - 1, keys=["ü/%d.png" % i for i in range(300)],
                                  attributes={"year": [2000 + i if i % 2 else None for i in range(300)], "place": ["room"] * 300, "share": np.linspace(0, 1, 300)})
        self.assertEqual((done["rows"], done["dim"], done["classes"]), (300, 17, 6))
        for i, r in zip((5, 0, 299), self.client.get(self.name, rows=[5, 0, 299])):
            np.testing.assert_array_equal(np.float32(r["vector"]), x[i])
            self.assertEqual((r["row"], r["key"], r["label"]), (i, "ü/%d.png" % i, None if i % 7 == 0 else i % 7 - 1))
        self.assertEqual(self.client.get(self.name, keys=["ü/7.png"])[0]["attributes"], {"year": 2007, "place": "room", "share": 7 / 299})
        rows, scores = self.client.query(self.name, x[:3], k=4, where='year != nil and year < 2100 and share > 0.1')
        self.assertTrue(np.all((rows % 2 == 1) & (rows < 100) & (rows > 29)))

    def test_query_is_exact(self):
        x, q = self.rng.standard_normal((2000, 32)).astype(np.float32), self.rng.standard_normal((50, 32)).astype(np.float32)
        self.client.ingest(self.name, x, replace=True)
        rows, scores = self.client.query(self.name, q, k=10)
        want, cosines = naive(q, x, 10)
        np.testing.assert_array_equal(rows, want)
        np.testing.assert_allclose(scores, cosines, atol=1e-5)
        rows, scores = self.client.query(self.name, rows=[3, 4], k=3, exclude_self=True)
        np.testing.assert_array_equal(rows, naive(x[3:5], x, 4)[0][:, 1:])
        rows, scores = self.client.query(self.name, q[:1], k=5, min_score=2)
        self.assertTrue((rows == -1).all() and np.isnan(scores).all())
        rows, _ = self.client.query(self.name, x[7].astype(np.float64), k=1)  # one vector
        self.assertEqual(rows.tolist(), [[7]])
        np.testing.assert_array_equal(self.client.query(self.name, np.asfortranarray(q), k=10)[0], want)
        half = self.name + "/f16"
        self.client.ingest(half, x.astype(np.float16), dtype="f16")
        np.testing.assert_array_equal(np.float16(self.client.get(half, rows=[9])[0]["vector"]), x[9].astype(np.float16))

    def test_evaluate(self):
        centres = self.rng.standard_normal((4, 16))
        y = np.arange(400) % 4
        x = (centres[y] + 0.3 * self.rng.standard_normal((400, 16))).astype(np.float32)
        result = membank.evaluate_knn(x[:300], y[:300], x[300:], y[300:], url=URL, k=[5, 10])
        rows, cosines = naive(x[300:], x[:300], 10)
        votes = np.zeros((100, 4))
        for j in range(10):
            np.add.at(votes, (np.arange(100), y[:300][rows[:, j]]), np.exp(cosines[:, j] / 0.07))
        self.assertEqual([r["k"] for r in result["results"]], [5, 10])
        self.assertAlmostEqual(result["results"][1]["top1"], np.mean(votes.argmax(1) == y[300:]), places=9)
        self.assertEqual(self.client.banks("tmp/"), [])

    def test_errors_are_exceptions(self):
        x = np.ones((3, 4), np.float32)
        self.client.ingest(self.name, x)
        bad = x.copy()
        bad[1, 2] = np.nan
        for kind, code, call in [
            (membank.Conflict, "bank_exists", lambda: self.client.ingest(self.name, x)),
            (membank.BadInput, "bad_row", lambda: self.client.ingest(self.name, bad, append=True)),
            (membank.BadInput, "wrong_dim", lambda: self.client.ingest(self.name, np.ones((3, 5)), append=True)),
            (membank.BadInput, "duplicate_key", lambda: self.client.ingest(self.name, x, keys=["a", "b", "a"], replace=True)),
            (membank.NotFound, "no_such_bank", lambda: self.client.query("nobody", x)),
            (membank.NotFound, "no_such_row", lambda: self.client.get(self.name, rows=[3])),
            (membank.BadInput, "bad_input", lambda: self.client.query(self.name, np.ones((1, 3)))),
            (membank.BadRequest, "usage", lambda: self.client.query(self.name, x, metric="manhattan")),
            (membank.BadRequest, "usage", lambda: self.client.evaluate("knn", trian="x")),
            (membank.BadRequest, "bad_name", lambda: self.client.ingest("../x", x)),
        ]:
            with self.assertRaises(kind) as caught:
                call()
            self.assertEqual(caught.exception.code, code)
            self.assertNotIn("Traceback", str(caught.exception))
        self.assertEqual(self.client.show(self.name)["generation"], 1)
        with self.assertRaises(membank.ConnectionLost):
            membank.Client("http://127.0.0.1:1").banks()
        with self.assertRaises(ValueError):
            membank.Client("/tmp/db")

    def test_remove(self):
        self.client.ingest(self.name, np.eye(4, dtype=np.float32), keys=list("abcd"))
        self.assertEqual(self.client.remove_rows(self.name, keys=["b"])["deleted"], 1)
        self.assertEqual(self.client.remove_rows(self.name, where='key == "c"')["rows"], 2)
        self.assertTrue(self.client.remove(self.name)["removed"])
        self.assertEqual(self.client.banks(self.name), [])


class Memory(Case):
    def test_slots_step_by_step(self):
        """1,000 random steps are those of the formula, to 1e-6."""
        n, d, m = 200, 8, 0.5
        bank = self.client.slots(self.name, rows=n, dim=d, init="unit", seed=3)
        own = bank.get()["rows"].astype(np.float64)
        np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, atol=1e-6)
        for step in range(1, 1001):
            ids = self.rng.choice(n, 16)  # duplicates: the last wins, from the value before
            z = self.rng.standard_normal((16, d)).astype(np.float32)
            gather = self.rng.integers(0, n, 5)
            before = own.copy()
            got = bank.update(ids, z, keep_old=m, step=step, gather=gather)
            np.testing.assert_allclose(got["rows"], before[gather], atol=1e-6)
            for i, row in zip(ids, z):
                mixed = m * before[i] + (1 - m) * row
                own[i] = mixed / max(np.linalg.norm(mixed), 1e-12)
            own = own.astype(np.float32).astype(np.float64)
        after = bank.get()
        np.testing.assert_allclose(after["rows"], own, atol=1e-6)
        self.assertEqual(bank.info()["step"], 1000)
        want, _ = naive(own[:5].astype(np.float32), own.astype(np.float32), 1)
        np.testing.assert_array_equal(bank.query(after["rows"][:5], k=1)[0], want)

    def test_queue_step_by_step(self):
        """1,000 random steps leave what they would leave in an array, bit for bit."""
        k, d = 48, 4
        queue = self.client.queue(self.name, rows=k, dim=d, init="zeros")
        own, pointer = np.zeros((k, d), np.float32), 0
        for step in range(1, 1001):
            z = self.rng.standard_normal((7, d)).astype(np.float32)
            before = queue.push(z, step=step, labels=np.full(7, step), read=True, scope="all")
            np.testing.assert_array_equal(before["rows"], own)
            for row in z:
                own[pointer] = row
                pointer = (pointer + 1) % k
        np.testing.assert_array_equal(queue.ordered()["rows"], np.roll(own, -pointer, axis=0))
        self.assertEqual(queue.info()["cursor"], pointer)
        near = queue.nearest(own[:3], k=2, with_vectors=True)
        np.testing.assert_array_equal(near["rows"][:, 0], [0, 1, 2])
        np.testing.assert_array_equal(near["vectors"][:, 0], own[:3])
        self.assertEqual(near["labels"].shape, (3, 2))

    def test_nce_step_by_step(self):
        """1,000 random steps of NCE: the first fixes Z, which the bank keeps, and every loss is
        -(1/B) sum [log(P+ / (P+ + K/N)) + sum log((K/N) / (P- + K/N))], to 1e-6. The bank
        changes between the steps; 500 of them average Z."""
        n, d, k, b, t = 100, 8, 16, 4, 0.5
        for rule, name in (("first", self.name), ("ema", self.name + "/ema")):
            bank = self.client.slots(name, rows=n, dim=d, seed=4)
            own, z = bank.get()["rows"].astype(np.float64), None
            for step in range(1, 501):
                ids, batch = self.rng.integers(0, n, b), self.rng.standard_normal((b, d)).astype(np.float32)
                batch /= np.linalg.norm(batch, axis=1, keepdims=True)
                columns = bank.sample(k, step=step, positives=ids, positive_first=True)
                scores = np.einsum("bd,bkd->bk", batch.astype(np.float64), own[columns]) / t
                estimate = n * np.exp(scores).mean()
                z = estimate if z is None else z if rule == "first" else 0.99 * z + 0.01 * estimate
                p, c = np.exp(scores) / z, k / n
                each = -(np.log(p[:, 0] / (p[:, 0] + c + 1e-7)) + np.log(c / (p[:, 1:] + c + 1e-7)).sum(1))
                got = bank.loss(batch, ids, n=k, temperature=t, step=step, z=rule)
                np.testing.assert_allclose([got["loss"], got["z"]] + got["each"], [each.mean(), z] + each.tolist(), rtol=1e-6, atol=1e-6)
                bank.update(ids[:1], batch[:1], keep_old=0.5, step=step)
                mixed = 0.5 * own[ids[0]] + 0.5 * batch[0]
                own[ids[0]] = (mixed / np.linalg.norm(mixed)).astype(np.float32)
            self.assertAlmostEqual(bank.info()["z"], z, delta=1e-5 * z)

    def test_sinkhorn_step_by_step(self):
        """1,000 random steps of SwAV: the batch is assigned together with the queue, once that
        is full, and pushed into it; to 1e-6. Prototypes move all the while."""
        k, d, b, rows = 5, 8, 6, 24
        queue = self.client.queue(self.name, rows=rows, dim=d, order="shift")
        own = np.zeros((0, d), np.float32)
        prototypes = self.rng.standard_normal((k, d)).astype(np.float32)
        for step in range(1, 1001):
            prototypes += 0.05 * self.rng.standard_normal((k, d)).astype(np.float32)
            prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
            z = self.rng.standard_normal((b, d)).astype(np.float32)
            z /= np.linalg.norm(z, axis=1, keepdims=True)
            both = np.concatenate([own, z]) if len(own) == rows else z
            q = np.exp(both.astype(np.float64) @ prototypes.astype(np.float64).T / 0.05).T
            q /= q.sum()
            for _ in range(3):
                q /= q.sum(1, keepdims=True) * k
                q /= q.sum(0, keepdims=True) * q.shape[1]
            want = (q * q.shape[1]).T[-b:]
            np.testing.assert_allclose(queue.assign(z, prototypes), want, atol=1e-6)
            queue.push(z, step=step)
            own = np.concatenate([own, z])[-rows:]

    def test_prototypes(self):
        """ODC's labels and means, PCL's concentrations and loss, DeepCluster-v2's labels."""
        n, d, k = 60, 6, 3
        x = self.rng.standard_normal((n, d)).astype(np.float32)
        y = np.arange(n) % k
        bank = self.client.slots(self.name, vectors=x, prototypes=k)
        bank.odc_start(y)
        means = np.stack([x[y == c].astype(np.float64).mean(0) for c in range(k)])
        np.testing.assert_allclose(bank.prototypes(), means, atol=1e-6)
        phi = np.array([np.linalg.norm(x[y == c] - means[c], axis=1).mean() / np.log((y == c).sum() + 10) for c in range(k)])
        phi = np.clip(phi, *np.percentile(phi, [10, 90]))
        phi *= 0.2 / phi.mean()
        np.testing.assert_allclose(bank.concentrations(), phi, rtol=1e-6)
        np.testing.assert_allclose(bank.concentrations(y, means.astype(np.float32)), phi, rtol=1e-6)
        got = bank.prototype_loss(x[:4], [1, 1, 1, 1], phi, n=2)
        scores = x[:4].astype(np.float64) @ means.T / phi
        self.assertAlmostEqual(got["loss"], float(np.mean(np.log(np.exp(scores).sum(1)) - scores[:, 1])), delta=1e-5)
        step = bank.odc([0, 1], x[[0, 1]], min_cluster=1, weights=True)
        self.assertEqual(step["labels"], (x[:2].astype(np.float64) @ means.T).argmax(1).tolist())
        self.assertAlmostEqual(sum(step["weights"]), 1)
        heads = bank.recluster([4, 3], epoch=2)
        rows = bank.get()["rows"]
        np.testing.assert_array_equal(heads["labels"][0], (rows @ heads["centroids_0"].T).argmax(1))
        np.testing.assert_allclose(np.linalg.norm(heads["centroids_1"], axis=1), 1, atol=1e-6)

    def test_smoothing_and_consistency(self):
        n, d, c = 20, 6, 4
        x, y = self.rng.standard_normal((2, 5, d)).astype(np.float32)
        rows, p = self.rng.standard_normal((n, d)).astype(np.float32), self.rng.dirichlet(np.ones(c), 5).astype(np.float32)
        for m in (x, y, rows):
            m /= np.linalg.norm(m, axis=1, keepdims=True)
        stored, labels = self.rng.dirichlet(np.ones(c), n).astype(np.float32), np.arange(n) % c
        queue = self.client.queue(self.name, rows=n, dim=[d, c])
        queue.push([rows, stored], labels=labels)

        def softmax(s):
            e = np.exp(s - s.max(1, keepdims=True))
            return e / e.sum(1, keepdims=True)

        a = softmax(x.astype(np.float64) @ rows.T / 0.2)
        got = queue.smooth(x, p, temperature=0.2, threshold=0.5)
        np.testing.assert_allclose(got["probabilities"], 0.9 * p + 0.1 * a @ stored, atol=1e-6)
        np.testing.assert_array_equal(got["accepted"], got["probabilities"].max(1) >= 0.5)
        got = queue.smooth(x, p, "simmatch", temperature=0.2)
        np.testing.assert_allclose(got["probabilities"], 0.9 * p + 0.1 * a @ np.eye(c)[labels], atol=1e-6)
        w = a * p[:, labels]
        np.testing.assert_allclose(got["instance"], w / w.sum(1, keepdims=True), atol=1e-6)
        dot = (x * y).sum(1, keepdims=True)
        u, v = (softmax(np.hstack([dot, z.astype(np.float64) @ rows.T]) / 0.05) for z in (x, y))
        kl = lambda f, g: (f * np.log(f / g)).sum(1)
        self.assertAlmostEqual(queue.consistency(x, y)["loss"], float(np.mean(kl(u, v) + kl(v, u)) / 2), delta=1e-5)
        key, query = softmax(y.astype(np.float64) @ rows.T / 0.04), softmax(x.astype(np.float64) @ rows.T / 0.1)
        self.assertAlmostEqual(queue.consistency(x, y, "ressl")["loss"], float(-(key * np.log(query)).sum(1).mean()), delta=1e-5)
        ft = queue.transform(x, y, step=3)
        l, b = ft["lambda"], ft["beta"]
        np.testing.assert_allclose(ft["queries"], l * x + (1 - l) * y, atol=1e-6)
        np.testing.assert_allclose(ft["negatives"], b * rows + (1 - b) * rows[ft["permutation"]], atol=1e-6)
        with self.assertRaises(membank.Error):
            queue.smooth(x, p[:, :2])

    def test_samples_are_equal_for_equal_steps(self):
        bank = self.client.slots(self.name, rows=1000, dim=4, seed=9)
        a, b = bank.sample(64, step=5, positives=[3, 4], exclude_positive=True), bank.sample(64, step=5, positives=[3, 4], exclude_positive=True)
        np.testing.assert_array_equal(a, b)
        self.assertEqual((a.shape, a.dtype), ((2, 64), np.int64))
        self.assertFalse((a == [[3], [4]]).any())
        self.assertFalse(np.array_equal(a, bank.sample(64, step=6, positives=[3, 4], exclude_positive=True)))
        got = bank.update([1, 2], np.eye(4)[:2], step=1, negatives=32)
        self.assertEqual((got["rows"].shape, got["ids"].shape), ((32, 4), (32,)))
        got["rows"] *= 2  # its memory is the caller's own
        loss = bank.loss(np.eye(4)[:2], [1, 2], n=16, kind="infonce")
        self.assertEqual(len(loss["each"]), 2)

    def test_checkpoints(self):
        bank = self.client.slots(self.name, rows=10, dim=2)
        bank.update([1], [[3, 4]], step=1)
        self.assertEqual(bank.checkpoint(1)["checkpoint"], self.name + "/step-1")
        bank.update([1], [[1, 0]], step=2, durability="memory")
        np.testing.assert_allclose(bank.get([1])["rows"], [[1, 0]])
        bank.restore(1)
        np.testing.assert_allclose(bank.get([1])["rows"], [[0.6, 0.8]], atol=1e-7)
        self.assertEqual(self.client.get(self.name + "/step-1", rows=[1])[0]["attributes"], {"step": 1})
        bank.drop()
        with self.assertRaises(membank.NotFound):
            bank.info()

    def test_opening_what_is_there(self):
        a = self.client.slots(self.name, rows=10, dim=[2, 3])
        self.assertEqual(self.client.slots(self.name, rows=10, dim=[2, 3]).info()["config"], a.info()["config"])
        for call in (lambda: self.client.slots(self.name, rows=11, dim=[2, 3]), lambda: self.client.slots(self.name, rows=10, dim=[2, 3], exist_ok=False)):
            with self.assertRaises(membank.Conflict):
                call()
        with self.assertRaises(membank.BadRequest):
            self.client.queue(self.name)
        with self.assertRaises(membank.BadRequest):
            self.client.queue(self.name + "q", rows=4, dim=2).__class__(self.client, self.name).push(np.ones((1, 2)))
        a.update([1], [np.ones((1, 2)), np.ones((1, 3))])
        self.assertEqual(a.get([1])["view_1"].shape, (1, 3))

    def test_wrong_batches_change_nothing(self):
        bank = self.client.slots(self.name, rows=10, dim=2)
        before = bank.get()["rows"]
        for kind, call in [
            (membank.BadInput, lambda: bank.update([10], [[1, 0]])),
            (membank.BadInput, lambda: bank.update([-1], [[1, 0]])),
            (membank.BadInput, lambda: bank.update([1], [[np.nan, 0]])),
            (membank.Error, lambda: bank.update([1], [[1, 0, 0]])),
            (membank.Error, lambda: bank.update([1, 2], [[1, 0]])),
            (membank.BadRequest, lambda: bank.update([1], [[1, 0]], keep_old=2)),
            (membank.Error, lambda: bank.update([1], [[1, 0]], gather=[10])),
            (TypeError, lambda: bank.update([1.5], [[1, 0]])),
        ]:
            self.assertRaises(kind, call)
        np.testing.assert_array_equal(bank.get()["rows"], before)
        self.assertEqual(bank.info()["updates"], 0)

    def test_ranks_share_a_bank(self):
        """Eight clients at once: no update is lost, no row is torn."""
        n, d, steps = 64, 16, 30
        self.client.slots(self.name, rows=n, dim=d)
        failures = []

        def rank(r):
            try:
                with membank.Client(URL) as client:
                    bank = client.slots(self.name)
                    for step in range(1, steps + 1):
                        own = np.arange(r * 4, r * 4 + 4)  # disjoint, and 60..63 for everybody
                        value = np.full((4, d), r * 1000 + step, np.float32)
                        bank.update(np.concatenate([own, np.arange(60, 64)]),
                                    np.concatenate([value, value]), step=step, renorm="none")
                        seen = bank.get(np.arange(n))["rows"]
                        if not (seen[own] == r * 1000 + step).all():
                            failures.append("rank %d lost step %d" % (r, step))
                        shared = seen[60:]
                        if not (shared == shared[:, :1]).all():
                            failures.append("a torn row")
            except Exception as e:
                failures.append(repr(e))

        threads = [threading.Thread(target=rank, args=(r,)) for r in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(failures, [])
        self.assertEqual(self.client.slots(self.name).info()["updates"], 8 * steps)

    def test_callback(self):
        callback = membank.BankCallback(self.client, self.name, every=2, k=3, keep=1)
        for epoch in range(5):
            if not callback.due(epoch):
                continue
            with callback.collect(epoch) as add:
                for part in ("train", "test"):
                    for _ in range(3):
                        y = self.rng.integers(0, 2, 8)
                        add(part, np.eye(2, 5)[y] + 0.01 * self.rng.standard_normal((8, 5)), y)
        self.assertEqual([(h["epoch"], h["top1"]) for h in callback.history], [(0, 1.0), (2, 1.0), (4, 1.0)])
        self.assertEqual([b["bank"] for b in self.client.banks(self.name)], [self.name + "/e004/test", self.name + "/e004/train"])


if __name__ == "__main__":
    URL = sys.argv.pop(1)
    unittest.main()
