"""The settings file that is written beside a data set, so that its name is all a run needs."""

import json
from collections.abc import Sequence
from pathlib import Path

from recbole_hellm.data.item_file import IMAGE_COLUMN, ItemReport
from recbole_hellm.data.records import Counts

_TEMPLATE = """\
# {name}: {users:,} users, {items:,} items, {interactions:,} interactions.
# Made by: recbole-hellm prepare {name} (sources, options and counts: manifest.json). Read after the settings of the
# model, before presets and the command line; preparing the data set again replaces it.

USER_ID_FIELD: user_id
ITEM_ID_FIELD: item_id
TIME_FIELD: timestamp           # integers that float32 keeps exactly, strictly increasing within a user
load_col:                       # day_gap (days since the interaction before) is in the file too, but not needed
  inter: [user_id, item_id, timestamp]
MAX_ITEM_LIST_LENGTH: 50        # interactions
eval_args:                      # leave one out: last interaction for test, the one before for validation
  split: {{LS: valid_and_test}}
  order: TO
  group_by: user
  mode: full

"""


def settings_text(
    name: str, counts: Counts, items: ItemReport, modalities: Sequence[str], images: Path | None = None
) -> str:
    """Return the yaml text with what RecBole and this package's models need to know.

    Args:
        name: Of the data set.
        counts: Its sizes.
        items: Columns of the ``.item`` file.
        modalities: Names of the matrices in ``features/``.
        images: Folder or ``.zip`` with pictures of the items.
    """
    text = _TEMPLATE.format(name=name, users=counts.n_users, items=counts.n_items, interactions=counts.n_interactions)
    named = [*(["text"] if items.texts and "text" not in modalities else []), *modalities]
    named += [IMAGE_COLUMN] if images is not None else []
    what = "text is encoded from text_columns; others are features/<name>.npy" if named else "none: no item hypergraph"
    if images is not None:
        what = "text is encoded from text_columns, image from the pictures; others are features/<name>.npy"
    text += f"item_features: [{', '.join(named)}]   # {what}\n"
    if images is not None:
        text += f"image_source: {json.dumps(str(images.resolve()), ensure_ascii=False)}\n"
    elif items.n_images and IMAGE_COLUMN not in modalities:
        text += (
            f"# {items.n_images:,} items have a picture (column {IMAGE_COLUMN}): add {IMAGE_COLUMN} to item_features "
        )
        text += "to encode them, with image_source for their folder\n"
    if items.numbers:
        text += f"# columns of numbers that may be added to item_features: {', '.join(items.numbers)}\n"
    if items.texts:
        text += f"text_columns: [{', '.join(items.texts)}]\n"
    return text
