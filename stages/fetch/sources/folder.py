"""Pictures of your own in the layout of MVTec AD, under `data.path` (null: data/raw, which DVC watches)."""

from pathlib import Path

from edge.errors import UserError
from stages.fetch import archive, hashes, layout
from stages.fetch.picture import Picture

DEFAULT = "data/raw"
NEAR_DUPLICATES = True


def load(data, work: Path) -> list[Picture]:
    """The pictures of the folder; a defect type may come without masks."""
    root = archive.existing(data.path or DEFAULT)
    if not root.is_dir():
        raise UserError(f"{root}: not a folder; set data.path to the folder that holds train/good and test")
    pictures = layout.read(root, data, masks="optional")
    hashes.verify_pictures(root, pictures, data.hashes)
    return pictures
