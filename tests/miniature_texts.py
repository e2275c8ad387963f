"""Texts of made-up offers, and a model of sentence-transformers that has learnt nothing: made here, not fetched."""

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLOURS = ("red", "blue", "green", "black", "white", "grey")
THINGS = ("shoe", "shirt", "hat", "coat", "bag", "sock")
FILLING = ("the", "a", "of", "with", "for", "in", "new", "old", "very", "nice", "great", "cheap", "sale", "now")
ITEMS = 8
"""Of each class: a colour and a thing, somewhere among words that say nothing of it."""
SMALL: dict[str, Any] = {
    "batch_size": 40,
    "items_per_class": 4,
    "epochs": 3,
    "learning_rate": 1e-3,
    "select": "last",
    "accelerator": "cpu",
}


def offers(items: int = ITEMS) -> list[tuple[str, str]]:
    """Return texts with their labels."""
    drawn, found = random.Random(0), list[tuple[str, str]]()
    for colour in COLOURS:
        for thing in THINGS:
            for _ in range(items):
                words = [*drawn.choices(FILLING, k=drawn.randint(2, 9)), colour, thing]
                drawn.shuffle(words)
                found.append((" ".join(words), f"{colour} {thing}"))
    return found


def save_texts(path: Path, rows: Sequence[Sequence[Any]] = (), header: Sequence[str] = ("text", "label")) -> Path:
    """Write a CSV or TSV table, of all offers unless rows are given."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerows([header, *(rows or offers())])
    return path


def save_sentence_model(folder: Path, *, static: bool = False, dropout: float = 0.1, normalize: bool = True) -> Path:
    """Write a BERT of two small layers, or a static model, whose tokens are the words of the offers."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, *COLOURS, *THINGS, *FILLING])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    modules: list[torch.nn.Module]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        if static:
            modules = [StaticEmbedding(tokenizer, embedding_dim=16)]
        else:
            names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
            fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
                tokenizer_object=tokenizer, model_max_length=32, **names
            )
            folder_of_bert = folder / "bert"
            fast.save_pretrained(folder_of_bert)
            config = BertConfig(
                vocab_size=len(vocabulary),
                hidden_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=48,
                max_position_embeddings=40,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
            )
            BertModel(config).save_pretrained(folder_of_bert)
            transformer = Transformer(str(folder_of_bert))
            modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")]
        model = SentenceTransformer(modules=[*modules, *([Normalize()] if normalize else [])], device="cpu")
        model.save(str(folder / "model"), create_model_card=False)
    return folder / "model"
