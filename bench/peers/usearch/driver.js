// USearch behind the requests that ../faiss/driver.cpp describes.
//
//	node driver.js exact|HNSW GALLERY.f32 ROWS DIM QUERIES.f32 COUNT THREADS
//
// exact is its brute force, HNSW its index (M 32, efConstruction 200), whose
// "set expansion_search N" is efSearch.
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const usearch = require("usearch");

const [kind, galleryPath, rows, dim, queriesPath, count, threads] =
  process.argv.slice(2).map((word, i) => (i >= 2 && i !== 4 ? Number(word) : word));

// load reads in parts: one read of Node ends at 2 GiB.
function load(file, floats) {
  const data = new Float32Array(floats);
  const bytes = new Uint8Array(data.buffer);
  const f = fs.openSync(file, "r");
  for (let at = 0; at < bytes.length; ) {
    const n = fs.readSync(f, bytes, at, Math.min(1 << 28, bytes.length - at), at);
    if (n === 0) throw new Error(`${file} ends after ${at} of ${bytes.length} bytes`);
    at += n;
  }
  fs.closeSync(f);
  return data;
}

const now = () => Number(process.hrtime.bigint()) / 1e9;
const say = (answer) => fs.writeSync(1, JSON.stringify(answer) + "\n");

const gallery = load(galleryPath, rows * dim);
const queries = load(queriesPath, count * dim);

function hnsw(expansionSearch) {
  return new usearch.Index({
    dimensions: dim, metric: "ip", quantization: "f32",
    connectivity: 32, expansion_add: 200, expansion_search: expansionSearch,
  });
}

let index;
const begin = now();
if (kind === "HNSW") {
  index = hnsw(64);
  const part = 1 << 16;
  for (let from = 0; from < rows; from += part) {
    const n = Math.min(part, rows - from);
    const keys = BigUint64Array.from({ length: n }, (_, i) => BigInt(from + i));
    index.add(keys, gallery.subarray(from * dim, (from + n) * dim), threads);
  }
}
say({
  name: "usearch",
  version: JSON.parse(fs.readFileSync(path.join(__dirname, "node_modules/usearch/package.json"))).version,
  level: "prebuilt, dispatches itself",
  index: kind === "HNSW" ? "HNSW32" : "exactSearch",
  build_seconds: now() - begin,
});

function search(from, n, k) {
  const part = queries.subarray(from * dim, (from + n) * dim);
  return index ? index.search(part, k, threads) : usearch.exactSearch(gallery, part, dim, k, "ip", threads);
}

// The search width belongs to a new index, which takes over the built graph.
let saved;
function setExpansion(value) {
  if (!saved) {
    saved = path.join(path.dirname(galleryPath), `usearch-${process.pid}.index`);
    index.save(saved);
    process.on("exit", () => fs.rmSync(saved, { force: true }));
  }
  index = hnsw(value);
  index.load(saved);
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [verb, ...words] = line.split(" ");
  if (verb === "batch") {
    const [k, n] = words.map(Number);
    const start = now();
    const found = search(0, n, k);
    const seconds = now() - start;
    const ids = BigInt64Array.from(found.keys);
    if (found.counts) {
      for (let q = 0; q < n; q++) ids.fill(-1n, q * k + Number(found.counts[q]), (q + 1) * k);
    }
    fs.writeFileSync(words[2], new Uint8Array(ids.buffer));
    say({ seconds });
  } else if (verb === "single") {
    const [k, n, first] = words.map(Number);
    const calls = [];
    for (let i = first; i < first + n; i++) {
      const start = now();
      search(i % count, 1, k);
      calls.push(now() - start);
    }
    say({ calls });
  } else if (verb === "set" && words[0] === "expansion_search" && index) {
    setExpansion(Number(words[1]));
    say({ seconds: 0 });
  } else {
    process.stderr.write(`no such request: ${line}\n`);
    process.exit(2);
  }
});
