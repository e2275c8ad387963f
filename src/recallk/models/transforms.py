"""The views of images for a data set and a loop of one's own: the trainer's, as callables."""

import os
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from recallk.core.bounds import mistake
from recallk.core.whole import check_whole
from recallk.data.images import read_image
from recallk.models.pictures import Picture, converted
from recallk.models.settings import Augmentation, ImageSettings
from recallk.models.views import test_view, train_view


class TestTransform:
    """The view of an image at test: the shorter side resized to `resize`, the centre cropped.

    What `recallk train` and `evaluate` show a network of squares. Pixels stay 8-bit; a network of one's own wants them
    normalised, by `torchvision.transforms.v2.ToDtype(torch.float32, scale=True)` and `Normalize` with its own mean and
    deviation (of timm's networks, `timm.data.resolve_model_data_config`) for example.

    Args:
        image_size: side of the square in pixels, 8 to 4,096.
        resize: by default `image_size` divided by the backbone's crop_pct.
        interpolation: "bilinear" or "bicubic"; by default as for the backbone's weights.
        backbone: any timm network, whose weights say how images are scaled.

    Raises:
        InputError: for sizes that do not fit, or an unknown backbone.

    >>> from PIL import Image
    >>> view = TestTransform(32)(Image.new("RGB", (60, 40), "white"))
    >>> view.shape, view.dtype
    (torch.Size([3, 32, 32]), torch.uint8)

    """

    __test__ = False

    def __init__(
        self,
        image_size: int = 224,
        *,
        resize: int | None = None,
        interpolation: str | None = None,
        backbone: str = "resnet50.tv_in1k",
    ) -> None:
        given = {"image_size": image_size, "resize": resize, "interpolation": interpolation, "backbone": backbone}
        known = {key: value for key, value in given.items() if value is not None or key == "image_size"}
        try:
            self.settings = ImageSettings.model_validate(known)
        except ValidationError as error:
            raise mistake(error) from None

    def __call__(self, image: Picture) -> Tensor:
        """Return the view `(3, S, S)` uint8 of a path, a PIL image or pixels. Raises InputError for what is none."""
        settings = self.settings
        return test_view(read_image(converted(image)), settings.resize, settings.image_size, settings.interpolation)


class TrainTransform:
    """The view of a training image: a random crop, mirrored and varied, the same for the same (seed, epoch, item).

    It draws nothing from the process's random numbers, and so gives the same view in both passes of a large batch.
    `recallk.LabelledImages` hands epoch and item over.

    Args:
        image_size: side of the square in pixels, 8 to 4,096.
        augment: "none" (as at test), "standard", "strong", a YAML file, or a table of transforms of
            torchvision.transforms.v2, such as `{"ColorJitter": {"brightness": 0.4}}`; their arguments are numbers,
            texts, and lists of them.
        crop_scale: least and largest share of the area, above 0 and up to 1.
        horizontal_flip: mirror half of the images; `recallk train` does so unless that makes another class of them.
        seed: of what is drawn.
        resize, interpolation, backbone: as for `TestTransform`; resize is for `augment="none"`.

    Raises:
        InputError: for a value that cannot be.

    >>> from PIL import Image
    >>> transform = TrainTransform(32, seed=1)
    >>> image = Image.linear_gradient("L")
    >>> bool((transform(image, epoch=2, item=5) == transform(image, epoch=2, item=5)).all())
    True
    >>> bool((transform(image, epoch=2, item=5) == transform(image, epoch=3, item=5)).all())
    False

    """

    def __init__(
        self,
        image_size: int = 224,
        *,
        augment: str | os.PathLike[str] | dict[str, Any] = "standard",
        crop_scale: tuple[float, float] = (0.5, 1.0),
        horizontal_flip: bool = True,
        seed: int = 0,
        resize: int | None = None,
        interpolation: str | None = None,
        backbone: str = "resnet50.tv_in1k",
    ) -> None:
        self._at_test = TestTransform(image_size, resize=resize, interpolation=interpolation, backbone=backbone)
        try:
            self._augmentation = Augmentation.model_validate(
                {"augment": augment, "crop_scale": crop_scale, "horizontal_flip": horizontal_flip}
            )
        except ValidationError as error:
            raise mistake(error) from None
        check_whole("seed", seed, 0)
        self._seed = int(seed)

    def __call__(self, image: Picture, *, epoch: int = 0, item: int = 0) -> Tensor:
        """Return the view `(3, S, S)` uint8 of a path, a PIL image or pixels in an epoch, counted from 0.

        Raises InputError for what is no image.
        """
        for name, number in (("epoch", epoch), ("item", item)):
            check_whole(name, number, 0)
        if self._augmentation.augment == "none":
            return self._at_test(image)
        settings = self._at_test.settings
        return train_view(
            read_image(converted(image)),
            settings.image_size,
            self._augmentation,
            settings.interpolation,
            seed=self._seed,
            epoch=epoch + 1,  # the trainer's are counted from 1
            item=item,
        )
