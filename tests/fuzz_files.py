"""Damage files of every format, read each in a process of its own, and count what comes of it.

    python -m tests.fuzz_files --cases 2000

Every form is first read whole. Then come files made to do harm, and then the damaged ones: bits flipped, cut short,
runs of zeros, headers edited, parts swapped, before compression or after. A reader may read a file, if all numbers are
finite and in range, or refuse it in one line. The exit status is 0 if every reader did.
"""

import argparse
import collections
import gzip
import io
import os
import pickle
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from jaxcollapse.data import DATASETS

SECONDS, BYTES = 10, 2**31
OUTCOMES = ("read", "refused", "other error", "wrong numbers", "crash", "hang")
RIGHT = {"whole": ["read"], "damaged": ["read", "refused"]}
RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def idx(values):
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def tar(files, **header):
    """Pack files; the header of each may lie."""
    stream = io.BytesIO()
    for name, data in files.items():
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for key, value in header.items():
            setattr(member, key, value)
        stream.write(member.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512))
    return stream.getvalue() + bytes(1024)


def packed(files, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def picture(form, values, *, palette=False, **options):
    stream, image = io.BytesIO(), Image.fromarray(values)
    (image.quantize(4) if palette else image).save(stream, form, **options)
    return stream.getvalue()


def png(width, height, bits, colour, data):
    """Write a PNG by hand; its header may lie."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0), b"IDAT": data, b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks.items()
    )


def mend(data):
    """Make the checksums of a PNG right, as far as it can be followed."""
    data, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
ROWS, FIVE = pixels(2, 3072), np.arange(5)
CIFAR = {name: pickle.dumps({"data": ROWS, "labels": [3, 7]}, 2) for name in BATCHES}
STL = dict.fromkeys(["train_X.bin", "test_X.bin"], pixels(27648).tobytes())
STL |= dict.fromkeys(["train_y.bin", "test_y.bin"], b"\x05")
IDX = {
    "train-images-idx3-ubyte": idx(pixels(5, 6, 4)),
    "train-labels-idx1-ubyte": idx(FIVE.astype(np.uint8)),
    "t10k-images-idx3-ubyte": idx(pixels(3, 6, 4)),
    "t10k-labels-idx1-ubyte": idx(np.arange(3, dtype=np.uint8)),
}
OTHERS = {name: data for name, data in IDX.items() if name != "train-images-idx3-ubyte"}
FACES = {f"img_align_celeba/{i}.jpg": picture("JPEG", pixels(9, 7, 3)) for i in (1, 2)} | {
    "list_attr_celeba.txt": b"2\nBald Male\n1.jpg -1  1\n2.jpg  1 -1\n",
    "list_eval_partition.txt": b"1.jpg 0\n2.jpg 2\n",
}
FLAT, COLOURED, TURNED = pixels(8, 8), pixels(8, 8, 3), Image.Exif()
TURNED[0x112] = 6
PICTURES = {
    "bmp": picture("BMP", COLOURED),
    "gif": picture("GIF", FLAT),
    "jpg": picture("JPEG", COLOURED, exif=TURNED),
    "progressive.jpg": picture("JPEG", COLOURED, progressive=True),
    "png": picture("PNG", COLOURED, exif=TURNED),
    "palette.png": picture("PNG", COLOURED, palette=True),
    "webp": picture("WEBP", COLOURED, lossless=True),
}
FLOATS = RNG.uniform(-1, 1, (5, 4, 4))
ARRAYS = {
    str(values.dtype): {"images.npy": npy(values), "labels.npy": npy(FIVE)}
    for values in (pixels(5, 4, 4), *map(FLOATS.astype, ("f2", "f4", "f8")))
}


def same(data):
    return data


def folder_of(name, data):
    return {f"{label}/{i}.{name}": data for i, label in enumerate("aaabb")}


# By name of a form: the data set, files, the one to be damaged, what makes the file of its damaged content.
FORMS = {
    **{f"idx, {name[:12]}": ("mnist", IDX, name, same) for name in IDX},
    "idx.gz": ("mnist", OTHERS, "train-images-idx3-ubyte.gz", gzip.compress),
    **{
        f"pickle, protocol {p}": (
            "cifar10",
            CIFAR | {"data_batch_3": pickle.dumps({"data": ROWS, "labels": np.array([3, 7])}, p)},
            "data_batch_3",
            same,
        )
        for p in range(6)
    },
    "pickle in tar.gz": (
        "cifar10", {}, "cifar-10-python.tar.gz", lambda data: gzip.compress(tar(CIFAR | {"test_batch": data}))
    ),
    "tar.gz": ("cifar10", {}, "cifar-10-python.tar.gz", gzip.compress),
    "binary": ("stl10", STL, "train_X.bin", same),
    "binary labels": ("stl10", STL, "test_y.bin", same),
    "binary in tar.gz": (
        "stl10", {}, "stl10_binary.tar.gz", lambda data: gzip.compress(tar(STL | {"train_X.bin": data}), 1)
    ),
    **{name: ("celeba", FACES, name, same) for name in ("list_attr_celeba.txt", "list_eval_partition.txt")},
    "faces": ("celeba", FACES, "img_align_celeba/2.jpg", same),
    **{
        name: ("folders", folder_of(name, data), f"b/4.{name}", mend if name.endswith("png") else same)
        for name, data in PICTURES.items()
    },
    **{
        f"npy of {name} in {kind} npz": (
            "npz", {}, "images.npz", lambda data, c=compression, f=files: packed(f | {"images.npy": data}, c)
        )
        for name, files in ARRAYS.items()
        for kind, compression in {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}.items()
    },
    "npz": ("npz", {}, "images.npz", same),
}  # fmt: skip
CONTENTS = {
    "idx.gz": IDX["train-images-idx3-ubyte"],
    "pickle in tar.gz": CIFAR["test_batch"],
    "tar.gz": tar(CIFAR),
    "binary in tar.gz": STL["train_X.bin"],
    "npz": packed(ARRAYS["float32"], zipfile.ZIP_DEFLATED),
    **{form: ARRAYS[form.split()[2]]["images.npy"] for form in FORMS if form.startswith("npy of ")},
}


class Forged:
    """Pickled as a call with a state."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def forged(code, *state):
    dtype = Forged(np.dtype, (code, False, True), (3, "|", None, None, None, *state))
    array = Forged(np.empty(0).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (2, 3072), dtype, False, bytes(6144)))
    return pickle.dumps({"data": array, "labels": [1, 2]}, 2)


def nested(depth):
    labels = [1, 2]
    for _ in range(depth):
        labels = [labels] * 9
    return pickle.dumps({"data": ROWS, "labels": labels})


ZEROS = gzip.compress(bytes(2**20), mtime=0)  # a kilobyte; a thousand of them are a file of one
BOMB = ZEROS * 1024
HEADER = gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**20, 32, 32))


def zip_of(**fields):
    """Write an npz whose directory lies about its members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in ARRAYS["uint8"].items():
            archive.writestr(name, data)
        for member in archive.infolist():
            for key, value in fields.items():
                setattr(member, key, value)
    return stream.getvalue()


def npy_of(header):
    text = header.encode().ljust(118) + b"\n"
    return packed(ARRAYS["uint8"] | {"images.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text})


DESCRIBED = "{{'descr': '{}', 'fortran_order': False, 'shape': ({}, {}, {})}}"
CIFAR_BATCH, TAR, NPZ, PNG = "data_batch_3", "cifar-10-python.tar.gz", "images.npz", "b/4.png"
BLACK = zlib.compress(bytes(2**20)) * 64
# By name: the data set, files, a path, and its content, or what is to be done with the path.
HARMFUL = {
    "gzip of a GiB": ("mnist", OTHERS, "train-images-idx3-ubyte.gz", BOMB),
    "gzip of a GiB of pixels": ("mnist", OTHERS, "train-images-idx3-ubyte.gz", HEADER + BOMB),
    "tar of a GiB": ("cifar10", {}, TAR, gzip.compress(tar({"first": b""}, size=2**30)[:512]) + BOMB),
    "tar of a batch of a TiB": ("cifar10", {}, TAR, gzip.compress(tar({"data_batch_1": b""}, size=2**40)) + BOMB),
    "tar of a negative size": ("cifar10", {}, TAR, gzip.compress(tar({"data_batch_1": b""}, size=-(2**40)))),
    "tar, sparse": ("cifar10", {}, TAR, gzip.compress(tar(CIFAR, type=tarfile.GNUTYPE_SPARSE, size=2**33))),
    "tar of a long name": ("cifar10", {}, TAR, gzip.compress(tar({"x": b""}, type=b"L", size=2**31)[:512]) + BOMB * 2),
    "tar of a pax header": ("cifar10", {}, TAR, gzip.compress(tar({"x": b""}, type=b"x", size=2**31)[:512]) + BOMB * 2),
    "tar of links": ("cifar10", {}, TAR, gzip.compress(tar(CIFAR, type=b"2", linkname="data_batch_1", size=0))),
    "tar of many members": ("cifar10", {}, TAR, gzip.compress(tar({str(i): b"" for i in range(20_000)}))),
    "zip of a TiB": ("npz", {}, NPZ, zip_of(file_size=2**40, compress_size=2**40)),
    "zip, encrypted": ("npz", {}, NPZ, zip_of(flag_bits=1)),
    "zip, bzip2": ("npz", {}, NPZ, packed(ARRAYS["uint8"], zipfile.ZIP_BZIP2)),
    "zip, lzma": ("npz", {}, NPZ, packed(ARRAYS["uint8"], zipfile.ZIP_LZMA)),
    "zip, unknown": ("npz", {}, NPZ, zip_of(compress_type=99)),
    "npy of 5 TiB": ("npz", {}, NPZ, npy_of(DESCRIBED.format("|u1", 5, 2**20, 2**20))),
    "npy that overflows": ("npz", {}, NPZ, npy_of(DESCRIBED.format("<f8", 5, 2**62, 4))),
    "npy of objects": ("npz", {}, NPZ, npy_of(DESCRIBED.format("|O", 5, 4, 4))),
    "npy of brackets": ("npz", {}, NPZ, npy_of("(" * 9000)),
    "npy of signs": ("npz", {}, NPZ, npy_of("-" * 9000 + "1")),
    "picture of 10^9 pixels": ("folders", {}, PNG, png(2**15, 2**15, 8, 0, BLACK)),
    "picture of 10^8 pixels": ("folders", {}, PNG, png(10_000, 10_000, 8, 2, BLACK)),
    "picture of 10^6 scans": ("folders", {}, "b/4.jpg", picture("JPEG", pixels(64, 64)) + b"\xff\xda" * 10**6),
    "picture that is a program": ("folders", {}, "b/4.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "pickle of objects": ("cifar10", CIFAR, CIFAR_BATCH, forged("O8", 8, 8, 63)),
    "pickle of a forged size": ("cifar10", CIFAR, CIFAR_BATCH, forged("V8", 2**31 - 1, 1, 0)),
    "pickle of a call": ("cifar10", CIFAR, CIFAR_BATCH, pickle.dumps(Forged(os.abort, ()))),
    "pickle of a long table": ("cifar10", CIFAR, CIFAR_BATCH, b"\x80\x04}r\xff\xff\xff\x7f."),
    "pickle of a TiB": ("cifar10", CIFAR, CIFAR_BATCH, b"\x80\x05\x96" + struct.pack("<Q", 2**34) + b"."),
    "pickle of 10^7 lists": ("cifar10", CIFAR, CIFAR_BATCH, b"\x80\x04" + b"]" * 10**7 + b"."),
    "pickle of 9^30 labels": ("cifar10", CIFAR, CIFAR_BATCH, nested(30)),
    "number of 10^6 digits": ("celeba", FACES, "list_attr_celeba.txt", b"9" * 10**6 + b"\nMale\n"),
    "name of a path": ("celeba", FACES, "list_attr_celeba.txt", b"2\nMale\n/dev/zero 1\n2.jpg 1\n"),
    **{
        f"{what}, {dataset}": (dataset, files, path, make)
        for dataset, files, path in (
            ("mnist", IDX, "train-images-idx3-ubyte"),
            ("cifar10", {}, TAR),
            ("stl10", STL, "train_X.bin"),
            ("celeba", FACES, "img_align_celeba/2.jpg"),
            ("folders", {}, PNG),
            ("npz", {}, NPZ),
        )
        for what, make in {
            "pipe": os.mkfifo,
            "device": lambda path: os.symlink("/dev/zero", path),
            "directory": os.mkdir,
            "sparse file of a TiB": lambda path: (path.touch(), os.truncate(path, 2**40)),
        }.items()
    },
}  # fmt: skip


def flip(rng, data):
    for at in rng.integers(0, len(data), rng.integers(1, 9)):
        data[at] ^= 1 << rng.integers(8)


def cut(rng, data):
    del data[rng.integers(len(data)) :]


def zero(rng, data):
    start = rng.integers(len(data))
    stop = min(start + rng.integers(1, 65), len(data))
    data[start:stop] = bytes(stop - start)


def edit_header(rng, data):
    for at in rng.integers(0, min(64, len(data)), rng.integers(1, 5)):
        data[at] = rng.choice([0, 1, 127, 128, 254, 255, rng.integers(256)])


def swap(rng, data):
    first, second, third = np.sort(rng.integers(0, len(data) + 1, 3))
    data[first:third] = data[second:third] + data[first:second]


def repeat(rng, data):
    start, stop = np.sort(rng.integers(0, len(data) + 1, 2))
    data[start:start] = data[start:stop]


def replace(rng, data):
    start = rng.integers(len(data))
    data[start : start + 16] = rng.bytes(16)


DAMAGE = (flip, cut, zero, edit_header, swap, repeat, replace)


def damaged(rng, form):
    """Damage the content of a file, or the file made of it."""
    dataset, files, path, make = FORMS[form]
    content = CONTENTS.get(form, files.get(path))
    inside, damage = rng.integers(2), DAMAGE[rng.integers(len(DAMAGE))]
    data = bytearray(content if inside else make(content))
    damage(rng, data)
    return dataset, files, path, make(bytes(data)) if inside else bytes(data)


def cases(number):
    """Name what is read: the group it is counted in, and what it is."""
    for form, (dataset, files, path, make) in FORMS.items():
        yield dataset, f"whole: {form}", (dataset, files, path, make(CONTENTS.get(form, files.get(path))))
    for name, case in HARMFUL.items():
        yield "harmful", name, case
    forms = list(FORMS)
    for i in range(number):
        form = forms[i % len(forms)]
        yield FORMS[form][0], f"damaged {i}: {form}", damaged(np.random.default_rng([1, i]), form)


def write(directory, files, path, content):
    if not files and path.startswith("b/"):
        files = folder_of("png", PICTURES["png"])
    for name, data in (files if callable(content) else files | {path: content}).items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(data)
    if callable(content):
        (directory / path).unlink(missing_ok=True)
        content(directory / path)


def attempt(directory, dataset):
    """Read files, and say what came of it."""
    try:
        parts = DATASETS[dataset](directory, 0, False)
    except (ValueError, OSError) as error:
        line = str(error)
        return "refused" if len(line.splitlines()) == 1 and str(directory) in line else "other error", line
    except BaseException as error:  # noqa: BLE001
        return "other error", repr(error)
    whole = all(np.isfinite(p.points).all() and np.abs(p.points).max() <= 1 and p.labels.min() >= 0 for p in parts)
    return ("read" if whole else "wrong numbers"), ""


def read_apart(directory, dataset):
    """Read files in a process with limits of time and memory. What it writes to standard error is an error too."""
    read_end, write_end = os.pipe()
    with tempfile.TemporaryFile() as errors:
        pid = os.fork()
        if pid == 0:
            os.dup2(errors.fileno(), 2)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
            signal.alarm(SECONDS)
            os.write(write_end, "\n".join(attempt(directory, dataset)).encode(errors="replace")[:4000])
            os._exit(0)
        os.close(write_end)
        _, status = os.waitpid(pid, 0)
        with open(read_end, "rb") as pipe:
            outcome, _, message = pipe.read().decode(errors="replace").partition("\n")
        errors.seek(0)
        written = errors.read().decode(errors="replace")
    if status:
        outcome, message = ("hang" if os.WTERMSIG(status) == signal.SIGALRM else "crash"), f"status {status}"
    elif written:
        outcome, message = "other error", written
    return outcome, message


def main():
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--cases", type=int, default=2000, help="damaged files")
    parser.add_argument("--verbose", action="store_true", help="say what came of each")
    arguments = parser.parse_args()
    counts, slowest, wrong = collections.defaultdict(collections.Counter), collections.Counter(), []
    for group, name, (dataset, *case) in cases(arguments.cases):
        with tempfile.TemporaryDirectory() as directory:
            write(Path(directory), *case)
            start = time.perf_counter()
            outcome, message = read_apart(Path(directory), dataset)
        slowest[group] = max(slowest[group], time.perf_counter() - start)
        counts[group][outcome] += 1
        if outcome not in RIGHT.get(name.partition(":")[0].split()[0], ["refused"]):
            wrong.append(f"{dataset}, {name}: {outcome}: {message}")
        if arguments.verbose:
            sys.stderr.write(f"{dataset}, {name}: {outcome}: {message}\n")
    sys.stdout.write(f"{'':12}" + "".join(f"{outcome:>15}" for outcome in OUTCOMES) + f"{'slowest, s':>15}\n")
    for group in counts:
        numbers = "".join(f"{counts[group][outcome]:15}" for outcome in OUTCOMES)
        sys.stdout.write(f"{group:12}{numbers}{slowest[group]:15.2f}\n")
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
