"""CelebA: faces, cropped and aligned, with attributes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxcollapse.checks import check_names, check_range
from jaxcollapse.data.files import Content, Published, not_found, read_image, read_published, reading, square
from jaxcollapse.data.images import Division, LabelledImages, from_bytes

CELEBA = Published(
    title="CelebA",
    download="put the folder img_align_celeba, that img_align_celeba.zip unpacks to, with list_attr_celeba.txt and "
    "list_eval_partition.txt there, from the CelebA page of the Chinese University of Hong Kong",
    folder="",
    archive="",
    md5={
        "list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c",
        "list_eval_partition.txt": "d32c9cbf5e040fd4025c592c306e6668",
    },
)
LISTS = ("list_attr_celeba.txt", "list_eval_partition.txt")
FOLDER = "img_align_celeba"
TRAIN, VALIDATION, TEST = "012"
MOST_ATTRIBUTES = 10


def load_celeba(
    directory: Path, attributes: Sequence[str] = ("Male",), size: int = 64, *, verify: bool = True
) -> Division:
    r"""Load colour images of faces: 162,770 to train on, 19,962 to test with [liu2015]_.

    Images for validation are left out. The class of an image is :math:`\sum_k 2^k a_k`, where :math:`a_k` is 1 if
    it has the k-th attribute, else 0.

    Args:
        directory: holds the folder `img_align_celeba`, `list_attr_celeba.txt` and `list_eval_partition.txt`.
        attributes: names of a, as in the list, from k = 0.
        size: side in pixels, resized from the largest square in the centre of the published 178 x 218.
        verify: whether the two lists must have the published checksums; False reads others in the same format.

    Raises:
        FileNotFoundError: if the folder or a list is missing.
        ValueError: if an argument is out of range, a checksum differs, or a file is not in the format.

    Example:
        >>> from pathlib import Path
        >>> from jaxcollapse.data import load_celeba
        >>> train, test = load_celeba(Path("celeba"), attributes=("Male", "Smiling"))  # doctest: +SKIP
    """
    check_range("size", size, low=1)
    check_range("number of attributes", len(attributes), low=1, high=MOST_ATTRIBUTES)
    attribute_list, partition_list = read_published(CELEBA, directory, LISTS, verify=verify)
    if not (directory / FOLDER).is_dir():
        raise not_found(CELEBA, directory, [FOLDER])
    classes = _read_classes(attribute_list, attributes)
    part_of = _read_parts(partition_list)
    if classes.keys() != part_of.keys():
        name = min(classes.keys() ^ part_of.keys())
        raise ValueError(f"{attribute_list.source} and {partition_list.source}: {name} is in one of them only")

    def load(part: str) -> LabelledImages:
        names = [name for name in classes if part_of[name] == part]
        if not names:
            raise ValueError(f"{partition_list.source}: no image is in part {part}")
        pixels = [square(read_image(directory / FOLDER / name).convert("RGB"), size) for name in names]
        labels = np.array([classes[name] for name in names])
        return from_bytes(str(directory / FOLDER), np.array(pixels), labels, 2 ** len(attributes))

    return load(TRAIN), load(TEST)


def _read_classes(content: Content, attributes: Sequence[str]) -> dict[str, int]:
    """Read the number of images, the names of attributes, and for each image its name and 1 or -1 for each."""
    with reading(content.source, "a list of attributes"):
        first, second, *lines = content.data.decode().splitlines()
        num_images, known = int(first), second.split()
        rows = {name: values for name, *values in map(str.split, lines)}
    if len(rows) != num_images:
        raise ValueError(f"{content.source}: {len(rows)} images, and its first line says {num_images}")
    for name, values in rows.items():
        if Path(name).name != name or not name.isprintable():
            raise ValueError(f"{content.source}: {name!r} must be the name of a file in {FOLDER}")
        if len(values) != len(known) or not {"1", "-1"}.issuperset(values):
            raise ValueError(f"{content.source}: {name} must have 1 or -1 for each of {len(known)} attributes")
    check_names(f"{content.source}: attribute", attributes, known)
    columns = [known.index(attribute) for attribute in attributes]
    return {name: sum(2**k * (values[i] == "1") for k, i in enumerate(columns)) for name, values in rows.items()}


def _read_parts(content: Content) -> dict[str, str]:
    with reading(content.source, "a list of names and parts"):
        part_of = dict(map(str.split, content.data.decode().splitlines()))
    if wrong := set(part_of.values()) - {TRAIN, VALIDATION, TEST}:
        raise ValueError(f"{content.source}: part {min(wrong)!r} must be {TRAIN}, {VALIDATION} or {TEST}")
    return part_of
