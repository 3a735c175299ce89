"""How close samples are to what they should be: distances, and evaluations that put them together."""

from pplemd.metrics.base import AbstractEvaluation as AbstractEvaluation
from pplemd.metrics.base import AbstractMeasure as AbstractMeasure
from pplemd.metrics.classes import class_kl as class_kl
from pplemd.metrics.features import AbstractFeatures as AbstractFeatures
from pplemd.metrics.features import Classifier as Classifier
from pplemd.metrics.features import Principal as Principal
from pplemd.metrics.features import principal as principal
from pplemd.metrics.features import train_classifier as train_classifier
from pplemd.metrics.frechet import frechet as frechet
from pplemd.metrics.frechet import frechet_gaussians as frechet_gaussians
from pplemd.metrics.images import ImageEvaluation as ImageEvaluation
from pplemd.metrics.images import ImageMeasure as ImageMeasure
from pplemd.metrics.mixtures import MixtureEvaluation as MixtureEvaluation
from pplemd.metrics.mixtures import MixtureMeasure as MixtureMeasure
from pplemd.metrics.modes import ModeFigures as ModeFigures
from pplemd.metrics.modes import mixture_modes as mixture_modes
from pplemd.metrics.neighbours import PrecisionRecall as PrecisionRecall
from pplemd.metrics.neighbours import precision_recall as precision_recall
from pplemd.metrics.posteriors import PosteriorEvaluation as PosteriorEvaluation
from pplemd.metrics.posteriors import PosteriorMeasure as PosteriorMeasure
from pplemd.metrics.posteriors import mmd as mmd
from pplemd.metrics.posteriors import told_apart as told_apart
from pplemd.metrics.samples import SampleEvaluation as SampleEvaluation
from pplemd.metrics.samples import SampleMeasure as SampleMeasure
from pplemd.metrics.wasserstein import sliced_wasserstein as sliced_wasserstein
