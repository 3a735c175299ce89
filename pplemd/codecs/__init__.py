"""Between x and the space in which a teacher lives."""

from pplemd.codecs.base import AbstractCodec as AbstractCodec
from pplemd.codecs.base import Identity as Identity
