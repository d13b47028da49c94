// A driver over a FAISS found on the machine, for membank bench peers. It holds
// one index over a gallery and answers one request a line, so that contenders
// can take turns within one run.
//
//   driver INDEX GALLERY.f32 ROWS DIM QUERIES.f32 COUNT THREADS
//
// The two files are bare little-endian float32 rows of unit length. INDEX is a
// factory string of FAISS ("Flat", "SQ8", "IVF2048,Flat", "HNSW32"). The first
// line printed says what was built:
//
//   {"name":"faiss","version":"1.x","level":"AVX512","index":"Flat","build_seconds":0.1}
//
// Requests, each answered by one line {"seconds":s} or {"calls":[s,...]}:
//
//   batch K N FILE    the first N queries at once; int64 ids [N][K] go to FILE
//   single K N FIRST  N queries from FIRST on, one call each, each timed
//   kmeans K ITERATIONS SEED FILE
//                     spherical k-means of the rows, all of them, which INDEX
//                     "KMeans" keeps instead of building an index: {"seconds":s,
//                     "calls":[...]}, the calls being iterations, and the float32
//                     centroids [K][DIM] go to FILE
//   set NAME VALUE    blas: threads of the BLAS library; openmp: those of OpenMP;
//                     else a search parameter of the index (nprobe, efSearch)
#include <faiss/AutoTune.h>
#include <faiss/Clustering.h>
#include <faiss/Index.h>
#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVF.h>
#include <faiss/IndexRefine.h>
#include <faiss/index_factory.h>
#include <faiss/utils/utils.h>
#include <omp.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

extern "C" void openblas_set_num_threads(int) __attribute__((weak));

namespace {

double now() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

std::vector<float> load(const char* path, size_t count) {
    std::vector<float> v(count);
    std::ifstream in(path, std::ios::binary);
    if (!in.read(reinterpret_cast<char*>(v.data()), count * sizeof(float))) {
        std::cerr << path << ": holds fewer than " << count << " floats\n";
        std::exit(3);
    }
    return v;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 8) {
        std::cerr << "usage: driver INDEX GALLERY.f32 ROWS DIM QUERIES.f32 COUNT THREADS\n";
        return 2;
    }
    const std::string factory = argv[1];
    const size_t rows = std::atoll(argv[3]), dim = std::atoll(argv[4]);
    const size_t count = std::atoll(argv[6]);
    const int threads = std::atoi(argv[7]);
    omp_set_num_threads(threads);

    auto queries = load(argv[5], count * dim);
    std::vector<float> kept; // the gallery, for k-means
    const bool clusters = factory == "KMeans";
    std::unique_ptr<faiss::Index> index(
            faiss::index_factory(dim, clusters ? "Flat" : factory.c_str(), faiss::METRIC_INNER_PRODUCT));
    faiss::Index* inner = index.get();
    if (auto refine = dynamic_cast<faiss::IndexRefine*>(inner)) {
        refine->k_factor = 10; // candidates scored again, for each neighbour
        inner = refine->base_index;
    }
    if (auto ivf = dynamic_cast<faiss::IndexIVF*>(inner)) {
        ivf->cp.spherical = true;
    }
    if (auto hnsw = dynamic_cast<faiss::IndexHNSW*>(index.get())) {
        hnsw->hnsw.efConstruction = 200;
    }
    double begin = 0, built = 0;
    if (clusters) {
        kept = load(argv[2], rows * dim);
    } else {
        auto gallery = load(argv[2], rows * dim);
        begin = now();
        index->train(rows, gallery.data());
        index->add(rows, gallery.data());
        built = now() - begin;
    }
    std::cout << "{\"name\":\"faiss\",\"version\":\"" << FAISS_VERSION_MAJOR << "."
              << FAISS_VERSION_MINOR << "." << FAISS_VERSION_PATCH << "\",\"level\":\""
              << faiss::get_compile_options() << "\",\"index\":\"" << factory
              << "\",\"build_seconds\":" << built << "}" << std::endl;

    std::vector<float> scores;
    std::vector<faiss::idx_t> ids;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream in(line);
        std::string verb;
        in >> verb;
        if (verb == "batch") {
            size_t k, n;
            std::string path;
            in >> k >> n >> path;
            scores.resize(n * k);
            ids.resize(n * k);
            begin = now();
            index->search(n, queries.data(), k, scores.data(), ids.data());
            const double seconds = now() - begin;
            std::ofstream out(path, std::ios::binary);
            out.write(reinterpret_cast<char*>(ids.data()), n * k * sizeof(faiss::idx_t));
            out.close();
            std::cout << "{\"seconds\":" << seconds << "}" << std::endl;
        } else if (verb == "single") {
            size_t k, n, first;
            in >> k >> n >> first;
            scores.resize(k);
            ids.resize(k);
            std::cout << "{\"calls\":[";
            for (size_t i = 0; i < n; i++) {
                const float* query = queries.data() + (first + i) % count * dim;
                begin = now();
                index->search(1, query, k, scores.data(), ids.data());
                std::cout << (i ? "," : "") << now() - begin;
            }
            std::cout << "]}" << std::endl;
        } else if (verb == "kmeans" && clusters) {
            size_t k;
            int iterations, seed;
            std::string path;
            in >> k >> iterations >> seed >> path;
            faiss::ClusteringParameters p;
            p.niter = iterations;
            p.seed = seed;
            p.spherical = true;
            p.min_points_per_centroid = 1;
            p.max_points_per_centroid = 1 << 30; // no subsampling
            faiss::Clustering run(dim, k, p);
            faiss::IndexFlatIP nearest(dim);
            begin = now();
            run.train(rows, kept.data(), nearest);
            const double seconds = now() - begin;
            std::ofstream out(path, std::ios::binary);
            out.write(reinterpret_cast<char*>(run.centroids.data()), k * dim * sizeof(float));
            out.close();
            std::cout << "{\"seconds\":" << seconds << ",\"calls\":[";
            double before = 0; // its times count from the start
            for (size_t i = 0; i < run.iteration_stats.size(); i++) {
                std::cout << (i ? "," : "") << run.iteration_stats[i].time - before;
                before = run.iteration_stats[i].time;
            }
            std::cout << "]}" << std::endl;
        } else if (verb == "set") {
            std::string name;
            double value;
            in >> name >> value;
            if (name == "openmp") {
                omp_set_num_threads(int(value));
            } else if (name != "blas") {
                faiss::ParameterSpace().set_index_parameter(index.get(), name, value);
            } else if (openblas_set_num_threads) {
                openblas_set_num_threads(int(value));
            }
            std::cout << "{\"seconds\":0}" << std::endl;
        } else {
            std::cerr << "no such request: " << line << "\n";
            return 2;
        }
    }
}
