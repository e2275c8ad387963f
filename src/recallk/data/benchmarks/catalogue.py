"""The benchmarks by name."""

from recallk.core.errors import InputError
from recallk.data.benchmarks import cars, cub, inaturalist, inshop, sop, vehicleid
from recallk.data.benchmarks.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    module.BENCHMARK.name: module.BENCHMARK for module in (cub, cars, sop, inaturalist, vehicleid, inshop)
}


def benchmark_named(name: str) -> Benchmark:
    """Return a benchmark; raises InputError, with the names there are, for another."""
    if name not in BENCHMARKS:
        raise InputError(f"no data set {name!r}: one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
