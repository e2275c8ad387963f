"""A model of sentence-transformers as an embedder: from texts to embeddings of unit length."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recallk.core.errors import InputError
from recallk.core.text import brief
from recallk.models import sentence_model
from recallk.models.chunks import Preparation
from recallk.models.embedder import Embedder
from recallk.models.settings import Augmentation, TextSettings

_TOKEN_BYTES = 16  # its number and whether it counts


class Texts(Preparation):
    """Texts as they are, at test and in training; those of a chunk are tokenised together."""

    def __init__(self, texts: Sequence[str], model: Any) -> None:
        self.texts, self._model = texts, model

    def prepare(self, number: int) -> str:
        """Return the text itself."""
        return str(self.texts[number])

    def collate(self, prepared: list[str]) -> dict[str, Tensor]:
        """Return the tokens of some texts, filled up to the longest, and which of them count: `(n, T)` int64 each.

        Of a static model, the tokens of all in a row, and where each text begins.
        """
        prompt = self._model.prompts.get(self._model.default_prompt_name) or None
        features = self._model.preprocess(prepared, prompt=prompt)
        return {name: value for name, value in features.items() if value is not None}

    def bytes_of(self, number: int) -> int:
        """Return what a text takes at most: no token is shorter than a letter."""
        return _TOKEN_BYTES * (len(self.texts[number]) + 2)


class TextEmbedder(Embedder):
    """Embeds texts by a `SentenceTransformer`, which `model` is.

    `embed` takes strings. Called as a module it takes what `model.preprocess` gives of them.
    """

    noun = "texts"
    settings_type = TextSettings
    settings: TextSettings

    def __init__(self, settings: TextSettings, model: Any) -> None:
        super().__init__(settings)
        self.model = model

    @property
    def name(self) -> str:
        """The model's."""
        return self.settings.backbone

    def forward(self, features: Mapping[str, Any]) -> Tensor:
        """Turn the tokens of texts into embeddings `(n, D)` float32 of unit length."""
        embeddings: Tensor = self.model(dict(features))["sentence_embedding"]
        return F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)

    def listed(self, items: Iterable[Any]) -> Sequence[str]:
        """Return the texts as a list. Raises InputError, naming the position, for what is none, and an empty one."""
        if isinstance(items, str) or not isinstance(items, Iterable):
            raise InputError(f"{brief(items)}: a list of texts is needed; write [text] for a single one")
        texts = items if isinstance(items, list) else list(items)
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"item {position} is {brief(text)}: this model embeds texts")
            if not text.strip():
                raise InputError(f"item {position} is an empty text")
        return texts

    def preparation(self, items: Sequence[Any]) -> Texts:
        """Return the texts as they are."""
        return Texts(items, self.model)

    def training_preparation(
        self,
        items: Sequence[Any],
        augmentation: Augmentation | None,  # noqa: ARG002
        *,
        seed: int,  # noqa: ARG002
        epoch: int,  # noqa: ARG002
    ) -> Texts:
        """Return the texts as they are: they are not varied."""
        return self.preparation(self.listed(items))

    def example(self, count: int) -> dict[str, Tensor]:
        """Return the tokens of `count` texts that are as long as the model sees them, or of 512 where it sees all."""
        most = self.model.get_max_seq_length()
        words = 512 if most is None or most == float("inf") else int(most)
        return Texts(["a " * words] * count, self.model).collate(["a " * words] * count)


def build_text_embedder(settings: TextSettings) -> TextEmbedder:
    """Build an embedder from a model that is fetched, or in a folder. Raises as `sentence_model.load_model`."""
    model = sentence_model.load_model(settings.backbone)
    own = sentence_model.about_model(model, settings.backbone).dimension
    if settings.max_length is not None:
        sentence_model.shorten(model, settings.max_length)
    if settings.embedding_size != own:
        sentence_model.projected(model, settings.embedding_size)
    return TextEmbedder(settings, model)
