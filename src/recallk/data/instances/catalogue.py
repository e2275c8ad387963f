"""The instance-level test sets by name."""

from recallk.core.errors import InputError
from recallk.data.instances.gldv2 import GLDV2, GLDV2_RECOGNITION
from recallk.data.instances.ilias import ILIAS
from recallk.data.instances.instance import InstanceBenchmark
from recallk.data.instances.revisited import OXFORD, PARIS

INSTANCE_BENCHMARKS: dict[str, InstanceBenchmark] = {
    benchmark.name: benchmark for benchmark in (OXFORD, PARIS, GLDV2, GLDV2_RECOGNITION, ILIAS)
}


def instance_benchmark_named(name: str) -> InstanceBenchmark:
    """Return a test set; raises InputError, with the names there are, for another."""
    if name not in INSTANCE_BENCHMARKS:
        raise InputError(f"no test set {name!r}: one of {', '.join(INSTANCE_BENCHMARKS)}")
    return INSTANCE_BENCHMARKS[name]
