"""A folder as BEIR lays it out, of made-up offers: who asks for a colour and a thing is to find the offers of it."""

import json
from pathlib import Path

from tests.miniature_texts import COLOURS, THINGS, offers


def save_beir(folder: Path, dev: bool = True) -> Path:
    """Write 36 queries, half of them in train, and 288 documents; offers of the colour alone are judged, and wrong."""
    (folder / "qrels").mkdir(parents=True)
    texts = offers()
    documents = [{"_id": f"d{number}", "title": "", "text": text} for number, (text, _) in enumerate(texts)]
    documents[0] = {"_id": "d0", "title": texts[0][0][:3], "text": texts[0][0][3:].strip()}
    queries = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (folder / "queries.jsonl").write_text(
        "\n".join(json.dumps({"_id": f"q{number}", "text": text}) for number, text in enumerate(queries)) + "\n"
    )
    rows: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for number, query in enumerate(queries):
        side = ("train", "test", "train", "dev" if dev else "test")[number % 4]
        for place, (_, label) in enumerate(texts):
            if label == query:
                rows[side].append(f"q{number}\td{place}\t{1 + place % 2}")
            elif label.split()[0] == query.split()[0] and place % 5 == 0:
                rows[side].append(f"q{number}\td{place}\t0")
    for side, lines in rows.items():
        if lines:
            (folder / "qrels" / f"{side}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    return folder
