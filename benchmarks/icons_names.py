"""What a head gains on names that it has not seen, by how many names there are to confuse.

    python -m benchmarks.icons_names icons.parquet runs/losses/recall@k docs/comparisons/icons-names.csv

For each run of a contender: recall@1 of the vectors as they are, and of the head's, on test names drawn at random.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recallk import load
from recallk.data.records import VectorRecords, labels_of, of_split
from recallk.data.vector_files import read_vectors
from recallk.evaluation import retrieval_metrics
from recallk.models.vector_embedder import VectorEmbedder

NAMES = (2500,)


def recall(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return recall@1, all searching each other."""
    return retrieval_metrics(vectors, labels, ks=(1,))["recall@1"]


def main() -> None:
    """Measure, print and write a line for each run and number of names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the file of vectors that the runs were trained on")
    parser.add_argument("contender", type=Path, help="a contender's folder of a comparison, with seed-1, ...")
    parser.add_argument("out", type=Path, help="a CSV file")
    given = parser.parse_args()
    records = of_split(read_vectors(given.data)[0], "test")
    assert isinstance(records, VectorRecords)
    labels, vectors = records.labels, np.asarray(records.vectors.table.array[records.vectors.rows], dtype=np.float32)
    every = len(labels_of(records))
    of_all = recall(vectors, labels)  # the same for each run
    lines = list[tuple[str, str, int, float, float, float]]()
    for run in sorted(given.contender.glob("seed-*")):
        model = load(run)
        assert isinstance(model, VectorEmbedder)
        heads = model.transform(vectors).numpy()
        for count in (*NAMES, every):
            random = np.random.default_rng([int(run.name.removeprefix("seed-")), count])
            chosen = np.isin(labels, random.permutation(np.unique(labels))[:count])
            before = of_all if count == every else recall(vectors[chosen], labels[chosen])
            after = recall(heads[chosen], labels[chosen])
            names = f"{count:,} names, {'all' if count == every else 'at random'}"
            lines.append((names, run.name, int(chosen.sum()), before, after, after - before))
            print(*lines[-1], flush=True)
    lines.sort(key=lambda line: line[:2])
    with given.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["contender", "run", "items", "before", "after", "gain"])
        table.writerows([*line[:3], *(f"{share:.6f}" for share in line[3:])] for line in lines)


if __name__ == "__main__":
    main()
