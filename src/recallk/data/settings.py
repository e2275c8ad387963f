"""What a configuration says of the data: where it is, and how it is split."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from recallk.core.bounds import Seed, Share
from recallk.core.files import user_path
from recallk.data.columns import SUFFIXES
from recallk.data.kind import VECTOR_FILES, ItemKind, kind_of
from recallk.data.layout import USUAL, Layout, parse_columns

CHOSEN_BY = 20
"""Classes that are set aside, unless somebody asks for fewer: among few, nearly all epochs look alike, and the best is
the luckiest; and few training classes are missed (benchmarks/NOTES.md)."""
ABOUT_ITEMS = "images, vectors or texts; by default vectors or texts where --data is a file of them"


class DataSettings(BaseModel):
    """The keys of the data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Annotated[
        str,
        Field(
            min_length=1,
            description="folder with a folder per class, table (.csv, .tsv, .jsonl, .parquet), .npy or .safetensors "
            "file of vectors, 'glyphs' or 'places'",
        ),
    ]
    dataset: Annotated[
        Literal["own", "cub", "cars", "sop", "inaturalist", "vehicleid", "inshop", "gldv2-clean", "sfm120k", "icons"],
        Field(description="what lies in --data: own images, or a benchmark as its archives unpack"),
    ] = "own"
    columns: Annotated[
        str | None,
        Field(min_length=1, description="what a table calls its columns, where not as here: path=image,label=class"),
    ] = None
    items: ItemKind = Field(
        default_factory=lambda given: (
            kind_of(given["data"], columns_of(given.get("columns")))
            if given.get("dataset") == "own" and "data" in given
            else "images"
        ),
        description=ABOUT_ITEMS,
    )
    root: Annotated[
        str | None, Field(min_length=1, description="folder that the paths in a table start from; by default its own")
    ] = None
    limit_classes: Annotated[
        int | None, Field(ge=2, le=10**9, description="only so many classes of each split, for a quick look")
    ] = None
    split: Annotated[
        Literal["given", "classes"],
        Field(
            description="as own data says (folders train, val, test at the top, or a column split) where it says "
            "anything; or by the classes' names"
        ),
    ] = "given"
    closed_set: Annotated[
        bool,
        Field(
            description="let the split that own data has have classes on several sides, and test on other items of "
            "classes that were trained on; tables call it a closed set"
        ),
    ] = False
    test_fraction: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            allow_inf_nan=False,
            description="share of the classes for testing; 0: none is kept for it, and nothing tells how well it does",
        ),
    ] = 0.5
    split_seed: Annotated[Seed, Field(description="of the split into train and test classes")] = 0
    select: Annotated[
        Literal["validation", "test", "last"] | None,
        Field(
            description="epoch whose model is the run's: best on the validation split that own data has, or else on "
            "training classes set aside; best on test; or the last; by default validation, and last where fewer than "
            f"{CHOSEN_BY} classes would be set aside"
        ),
    ] = None
    validation_fraction: Annotated[
        Share, Field(description="share of the training classes set aside for select=validation")
    ] = 0.1

    on_bad_image: Annotated[
        Literal["stop", "skip"],
        Field(description="what a file that cannot be read does: end the run, or be left out; skip opens all before"),
    ] = "stop"
    max_bad_images: Annotated[
        float,
        Field(ge=0, le=1, allow_inf_nan=False, description="share of all files that on_bad_image=skip leaves out"),
    ] = 0.01

    @field_validator("columns")
    @classmethod
    def _columns_are_named(cls, columns: str | None) -> str | None:
        if columns is not None:
            parse_columns(columns)
        return columns

    @model_validator(mode="after")
    def _own_tables_alone_have_a_layout(self) -> "DataSettings":
        if self.dataset != "own" and not self.layout.usual:
            raise ValueError(f"columns and root are for own tables, and these are {self.dataset}: leave them out")
        return self

    @model_validator(mode="after")
    def _own_data_alone_may_be_split_otherwise(self) -> "DataSettings":
        if self.dataset != "own" and self.split != "given":
            raise ValueError(f"split=classes is for own data, and these are {self.dataset}: leave it out")
        return self

    @model_validator(mode="after")
    def _a_closed_set_is_a_split_that_own_data_has(self) -> "DataSettings":
        if self.closed_set and (self.dataset != "own" or self.split == "classes"):
            have = f"these are {self.dataset}" if self.dataset != "own" else "split=classes splits by classes"
            raise ValueError(f"closed_set is for the split that own data has, and {have}: leave it out")
        return self

    @model_validator(mode="after")
    def _the_best_on_test_needs_one(self) -> "DataSettings":
        if self.test_fraction == 0 and self.select == "test":
            raise ValueError("select=test needs test classes, and test_fraction=0 leaves none: choose another")
        return self

    @model_validator(mode="after")
    def _bad_images_may_be_left_out(self) -> "DataSettings":
        changed = {"on_bad_image": self.on_bad_image != "stop", "max_bad_images": self.max_bad_images != 0.01}
        if self.items != "images" and any(changed.values()):
            key = next(key for key in changed if changed[key])
            raise ValueError(f"{key} is for images, and the data are {self.items}: leave it out")
        if self.on_bad_image == "stop" and self.max_bad_images != 0.01:
            raise ValueError("max_bad_images is for on_bad_image=skip, and on_bad_image=stop: choose one")
        return self

    @property
    def layout(self) -> Layout:
        """How a table is laid out."""
        return Layout(columns_of(self.columns), user_path(self.root) if self.root else None)

    def layout_of(self, data: str | None) -> Layout:
        """Return how a table is laid out: the run's own, or another, whose columns are called as in the run's."""
        if data is None or user_path(data).resolve() == user_path(self.data).resolve():
            return self.layout
        is_table = user_path(data).suffix.lower() in SUFFIXES | VECTOR_FILES
        return Layout(self.layout.columns) if is_table else USUAL

    @property
    def tested_on(self) -> str:
        """Say in words what the test items are of."""
        return f"classes {'seen in training (a closed set)' if self.closed_set else 'never seen in training'}"

    def reads_as(self, other: "DataSettings") -> bool:
        """Whether other settings read the same items, split alike."""
        return all(getattr(self, key) == getattr(other, key) for key in DataSettings.model_fields)


def columns_of(columns: str | None) -> dict[str, str]:
    """Return what the key `columns` says, by our names; nothing where it is left out. Raises ValueError as parsing."""
    return parse_columns(columns) if columns else {}
