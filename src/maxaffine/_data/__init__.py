"""Named data sets and data files, always as the same frozen record in [0, 1].

`load` is the door; it returns a `DataSet` of two `Split`s. To iterate in batches use torch's own loader:
``torch.utils.data.DataLoader(split, batch_size=64)``.
"""

from .dataset import DataSet, Split, split_by_class, without_classes
from .files import read_idx
from .folders import FolderFiles
from .loading import NAMES, load, load_part, read_input
from .tables import is_table
