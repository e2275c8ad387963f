"""A trained model, measured by judged pairs of query and document, as information retrieval does."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from recallk.core import processes
from recallk.core.devices import available_device
from recallk.core.errors import InputError
from recallk.core.files import user_path
from recallk.core.group import joined
from recallk.core.progress import Advance, counting
from recallk.core.relevance import Positives
from recallk.core.text import shown
from recallk.data.beir import Beir
from recallk.data.item import Item, Record
from recallk.data.kind import is_beir
from recallk.data.layout import Layout
from recallk.data.qrels import Qrels, read_qrels
from recallk.data.records import with_roles
from recallk.data.source import read_own
from recallk.data.texts import Text
from recallk.data.vectors import Vector
from recallk.evaluation.judged import judged_metrics_by_query, write_by_query
from recallk.models.scales import Scales
from recallk.runs.embedding import embed_as_configured, how_embedded
from recallk.runs.evaluation import Evaluation
from recallk.runs.folder import RunFolder

KS = (1, 10, 100)


@dataclass(frozen=True)
class JudgedSet:
    """Queries and documents with their ids, and which pairs were judged; queries that nobody judged are left out."""

    query_ids: Sequence[str]
    queries: Sequence[Item]
    document_ids: Sequence[str]
    documents: Sequence[Item]
    qrels: Qrels

    @property
    def positives(self) -> Positives:
        """Who is relevant to whom."""
        return Positives.from_qrels(self.qrels, self.query_ids, self.document_ids)


def read_judged(data: str, qrels: str | os.PathLike[str] | None, layout: Layout) -> JudgedSet:
    """Return what is measured: of a folder as BEIR lays it out, by `qrels/test.tsv` or another file; or of own data.

    Own data are a table of texts or vectors with ids, whose queries are those that the file judges. Raises InputError
    for what does not fit.
    """
    path = user_path(data)
    if is_beir(path):
        beir = Beir(path)
        file = beir.judged("test") if qrels is None else user_path(qrels)
        if file is None:
            raise InputError(f"{path}: no qrels/test.tsv: say which pairs are judged with --qrels FILE")
        judged = beir.qrels(file)
        queries = [beir.queries[name] for name in judged]
        return JudgedSet(list(judged), queries, list(beir.documents), list(beir.documents.values()), judged)
    if qrels is None:
        raise InputError(f"{path}: not a folder as BEIR has them: say which pairs are judged with --qrels FILE")
    judged = read_qrels(user_path(qrels))
    records = with_roles(read_own(data, layout=layout)[0])
    by_id = {_id(record, data): record for record in records}
    if missing := next((name for name in judged if name not in by_id), None):
        raise InputError(f"{qrels}: query {shown(missing)} is no id of {data}")
    found = {name: record.item for name, record in by_id.items() if record.role != "query"}
    return JudgedSet(list(judged), [by_id[name].item for name in judged], list(found), list(found.values()), judged)


def evaluate_judged(
    run: str | os.PathLike[str],
    data: str,
    qrels: str | os.PathLike[str] | None,
    ks: Sequence[int] | None,
    by_query: str | os.PathLike[str] | None,
    scales: Scales,
    advance: Advance,
) -> Evaluation:
    """Measure the model of a run by judged pairs: `evaluation.judged_metrics`, at 1, 10 and 100 by default.

    What each query reached is written to the file `by_query`, as trec_eval does. Raises InputError as `read_judged`.
    """
    from recallk.models.saved import load

    embedder, folder = load(run), RunFolder(user_path(run))
    config = folder.config_for(data)
    with joined(available_device(config.accelerator).type):
        with processes.failing_together():
            advance("reading the data", 0, 0)
            judged = read_judged(data, qrels, config.layout_of(data))
        told = counting(advance, "embedding", len(judged.queries) + len(judged.documents))
        queries, documents = (
            embed_as_configured(embedder, config, items, told, scales=scales)
            for items in (judged.queries, judged.documents)
        )

        def measured() -> Evaluation:
            advance("ranking", 0, 0)
            found = judged_metrics_by_query(queries, judged.positives, documents, KS if ks is None else ks)
            if by_query is not None:
                write_by_query(by_query, found, judged.query_ids)
            counted = (
                f"{len(judged.queries):,} queries among {len(judged.documents):,} {embedder.noun}, by judged pairs"
            )
            metrics = {name: float(values.nanmean()) for name, values in found.items()}
            return Evaluation(counted, metrics, conditions=tuple(how_embedded(embedder, scales)))

        return processes.from_first(measured)


def _id(record: Record, data: str) -> str:
    name = record.item.id if isinstance(record.item, Text | Vector) else None
    if not isinstance(name, str):
        raise InputError(f"{data}: judged pairs name ids, and the data has no column id: give a table with one")
    return name
