"""An example of a data source: a folder of pictures whose names begin with the defect type (good_017.png, dent_3.png).

In stages/fetch/sources/ it would be `data.source: prefixed`; tests/test_sources.py runs fetch with it.
"""

from pathlib import Path

from edge.errors import UserError
from edge.preprocess import find_pictures
from stages.fetch import archive, hashes
from stages.fetch.picture import Picture


def load(data, work: Path) -> list[Picture]:
    """The pictures of `data.path`, without masks; the good ones are split by fetch."""
    root = archive.existing(data.path or "data/raw")
    pictures = []
    for file in find_pictures(root, deep=False)[0]:
        defect, underscore, _ = file.name.partition("_")
        if not underscore:
            raise UserError(f"{file}: its name doesn't begin with a defect type and _; rename it")
        origin = "any" if defect == "good" else "test"
        pictures.append(Picture(file, f"{defect}/{file.name}", defect, mask=None, group=file.name, origin=origin))
    hashes.verify_pictures(root, pictures, data.hashes)
    return pictures
