"""Archives for tests, made on the spot."""

import io
import tarfile
import zipfile

from PIL import Image

from tests.data import pictures


def png(seed=0, size=4):
    """The bytes of a small picture; see :func:`pictures.noise`."""
    return saved(pictures.noise(size, size, seed=seed))


def saved(levels, form="PNG"):
    """The bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(levels).save(file, form)
    return file.getvalue()


def tar(members, form=tarfile.PAX_FORMAT):
    """The bytes of a tar: of a file its bytes, of a folder None, of a link ``("sym", target)``."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form, errors="surrogateescape") as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, tuple):
                kind, info.linkname = content
                info.type = {
                    "sym": tarfile.SYMTYPE,
                    "hard": tarfile.LNKTYPE,
                    "pipe": tarfile.FIFOTYPE,
                }[kind]
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return file.getvalue()


def zipped(members, method=zipfile.ZIP_DEFLATED):
    """The bytes of a zip: of a file its bytes, of a folder (its name ends in a slash) none."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return file.getvalue()


def write(path, content):
    """Write bytes to a file, and its folders on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
