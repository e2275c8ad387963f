"""What is needed to build an embedder, as a person writes it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recallk.data.record import Interpolation

Pooling = Literal["average", "gem", "token"]


class EmbedderSettings(BaseModel):
    """The network and the size of the images that it sees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: Annotated[str, Field(description="any timm model by name")] = "resnet50.tv_in1k"
    pooling: Annotated[Pooling, Field(description="over the last features: average, gem or token (class token)")] = (
        "gem"
    )
    embedding_size: Annotated[int, Field(ge=1, description="dimensions of an embedding")] = 512
    image_size: Annotated[int, Field(ge=8, description="pixels of the square that the network sees")] = 224
    resize: Annotated[
        int,
        Field(
            ge=8,
            default_factory=lambda given: round(given["image_size"] * 256 / 224),
            description="shorter side before the centre crop at test; by default 8/7 of image_size",
        ),
    ]
    interpolation: Annotated[Interpolation, Field(description="how images are scaled")] = "bilinear"

    @model_validator(mode="after")
    def _crop_fits(self) -> "EmbedderSettings":
        if self.resize < self.image_size:
            raise ValueError(f"resize={self.resize} is smaller than image_size={self.image_size}")
        return self
