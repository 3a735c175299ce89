"""Sources of data: scikit-learn's digits, .npz files, folders and zips of images; tables of columns."""

from pplemd.data.arrays import npz as npz
from pplemd.data.arrays import npz_images as npz_images
from pplemd.data.columns import columns as columns
from pplemd.data.dataset import Dataset as Dataset
from pplemd.data.dataset import Split as Split
from pplemd.data.dataset import digits as digits
from pplemd.data.dataset import held_out as held_out
from pplemd.data.dataset import mirrored as mirrored
from pplemd.data.image_files import all_images as all_images
from pplemd.data.image_files import images as images
from pplemd.data.table_files import table as table
