"""CelebA is written here byte by byte, and what is read is compared with the pixels that were written."""

import numpy as np
import pytest
from image_files import agree, random_pixels, resized
from PIL import Image

from jaxcollapse.data.celeba import load_celeba

NAMES = ["000001.png", "000002.png", "000003.png", "000004.png"]
ATTRIBUTES = np.array([[1, -1, 1], [-1, -1, 1], [1, 1, 1], [-1, 1, -1]])
PARTS = [0, 2, 1, 0]


def write_lists(directory, names=NAMES, count=None, attributes=ATTRIBUTES, parts=PARTS):
    rows = [f"{name} " + " ".join(f"{value:2d}" for value in row) for name, row in zip(names, attributes, strict=False)]
    header = [str(len(names) if count is None else count), "Bald Male Smiling "]
    (directory / "list_attr_celeba.txt").write_text("\r\n".join([*header, *rows, ""]))
    lines = [f"{name} {part}" for name, part in zip(NAMES, parts, strict=True)]
    (directory / "list_eval_partition.txt").write_text("\n".join([*lines, ""]))


@pytest.fixture
def faces(tmp_path):
    """Write four images of 10 x 14 pixels (lossless, to be compared) in the layout of CelebA."""
    directory = tmp_path / "faces"
    (directory / "img_align_celeba").mkdir(parents=True)
    pixels = random_pixels(4, 14, 10, 3)
    for name, image in zip(NAMES, pixels, strict=True):
        Image.fromarray(image).save(directory / "img_align_celeba" / name)
    write_lists(directory)
    return directory, pixels


def test_celeba_is_cropped_in_the_centre_and_divided_as_published(faces):
    directory, pixels = faces
    train, test = load_celeba(directory, size=10, verify=False)
    agree(train, pixels[[0, 3], 2:12], [0, 1])
    agree(test, pixels[[1], 2:12], [0])


def test_celeba_is_resized_without_aliasing(faces):
    directory, pixels = faces
    train, _ = load_celeba(directory, size=4, verify=False)
    levels = (train.points.reshape(2, 4, 4, 3) + 1) * 127.5
    np.testing.assert_allclose(levels, resized(pixels[[0, 3], 2:12], 4), atol=1.1)
    assert load_celeba(directory, verify=False)[0].shape == (64, 64, 3)


def test_attributes_of_celeba_combine_to_classes(faces):
    directory, _ = faces
    assert load_celeba(directory, ["Smiling"], verify=False)[0].labels.tolist() == [1, 0]
    train, test = load_celeba(directory, ["Smiling", "Male", "Bald"], verify=False)
    assert train.labels.tolist() == [1 + 4, 2]
    assert test.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"count": 5}, r"list_attr_celeba.txt: 4 images, and its first line says 5"),
        ({"count": "many"}, r"list_attr_celeba.txt: .*is not a list of attributes"),
        ({"attributes": ATTRIBUTES[:, :2]}, r"000001.png must have 1 or -1 for each of 3 attributes"),
        ({"attributes": ATTRIBUTES * 2}, r"000001.png must have 1 or -1"),
        ({"parts": [0, 2, 3, 0]}, r"list_eval_partition.txt: part '3' must be 0, 1 or 2"),
        ({"parts": [0, 0, 1, 0]}, r"list_eval_partition.txt: no image is in part 2"),
        ({"parts": ["0 0", 2, 1, 0]}, r"list_eval_partition.txt: .*is not a list of names and parts"),
        ({"names": ["../1.png", *NAMES[1:]]}, r"list_attr_celeba.txt: '../1.png' must be the name of a file in"),
        ({"names": ["1\0.png", *NAMES[1:]]}, r"list_attr_celeba.txt: '1\\x00.png' must be the name of a file in"),
        ({"names": NAMES[:3]}, r"000004.png is in one of them only"),
        ({"names": [*NAMES[:3], "a.png"]}, r"000004.png is in one of them only"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(faces, lists, message):
    directory, _ = faces
    write_lists(directory, **lists)
    with pytest.raises(ValueError, match=message):
        load_celeba(directory, verify=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"attributes": ["Smilling"]},
            "list_attr_celeba.txt: attribute 'Smilling' is not known: .*did you mean 'Smiling'",
        ),
        ({"attributes": []}, r"number of attributes = 0: must be in \[1, 10\]"),
        ({"size": 0}, "size = 0: must be at least 1"),
    ],
)
def test_arguments_of_celeba_are_checked(faces, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_celeba(faces[0], **arguments, verify=False)


def test_broken_and_missing_faces_are_named(faces):
    directory, _ = faces
    path = directory / "img_align_celeba" / NAMES[1]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"000002.png: is cut short, or is not an image"):
        load_celeba(directory, verify=False)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"000002.png"):
        load_celeba(directory, verify=False)
    path.parent.rename(directory / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"CelebA: img_align_celeba not found in .*: put the folder"):
        load_celeba(directory, verify=False)


def test_celeba_is_verified(faces):
    with pytest.raises(ValueError, match=r"list_attr_celeba.txt: md5 of list_attr_celeba.txt is"):
        load_celeba(faces[0])
