"""The instance-level test sets by name."""

from recallk.core.errors import InputError
from recallk.data.instances.gldv2 import GLDV2, GLDV2_RECOGNITION
from recallk.data.instances.ilias import ILIAS
from recallk.data.instances.instance import InstanceBenchmark
from recallk.data.instances.places import PLACES
from recallk.data.instances.revisited import OXFORD, PARIS

INSTANCE_BENCHMARKS: dict[str, InstanceBenchmark] = {
    benchmark.name: benchmark for benchmark in (OXFORD, PARIS, GLDV2, GLDV2_RECOGNITION, ILIAS, PLACES)
}
OWN = "own"
"""In place of a name: own images with their classes, each of which asks for the others of its class."""


def instance_benchmark_named(name: str) -> InstanceBenchmark:
    """Return a test set; raises InputError, with the names there are, for another."""
    if name not in INSTANCE_BENCHMARKS:
        raise InputError(f"no test set {name!r}: one of {', '.join([*INSTANCE_BENCHMARKS, OWN])}")
    return INSTANCE_BENCHMARKS[name]
