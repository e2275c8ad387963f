"""The benchmarks by name."""

from recallk.core.errors import InputError
from recallk.data.benchmarks import cars, cub, gldv2_clean, icons, inaturalist, inshop, sfm120k, sop, vehicleid
from recallk.data.benchmarks.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (cub, cars, sop, inaturalist, vehicleid, inshop, gldv2_clean, sfm120k, icons)
}


def benchmark_named(name: str) -> Benchmark:
    """Return a benchmark; raises InputError, with the names there are, for another."""
    if name not in BENCHMARKS:
        raise InputError(f"no data set {name!r}: one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
