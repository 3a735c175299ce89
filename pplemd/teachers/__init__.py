"""Teacher priors behind one contract."""

from pplemd.teachers.base import AbstractDenoiser as AbstractDenoiser
from pplemd.teachers.base import AbstractDensity as AbstractDensity
from pplemd.teachers.base import AbstractDrawnTeacher as AbstractDrawnTeacher
from pplemd.teachers.base import AbstractExactTeacher as AbstractExactTeacher
from pplemd.teachers.base import AbstractTeacher as AbstractTeacher
from pplemd.teachers.denoiser import Denoiser as Denoiser
from pplemd.teachers.density import Density as Density
from pplemd.teachers.flow import Flow as Flow
from pplemd.teachers.function import DenoiserFunction as DenoiserFunction
from pplemd.teachers.function import ScoreFunction as ScoreFunction
from pplemd.teachers.guided import Guidance as Guidance
from pplemd.teachers.guided import Guided as Guided
from pplemd.teachers.guided import unguided as unguided
from pplemd.teachers.mixture import GaussianMixture as GaussianMixture
from pplemd.teachers.noised import AbstractNoised as AbstractNoised
from pplemd.teachers.noised import Quadratic as Quadratic
from pplemd.teachers.noised import Unnoised as Unnoised
from pplemd.teachers.one_step import OneStep as OneStep
from pplemd.teachers.one_step import one_step as one_step
from pplemd.teachers.posterior import Posterior as Posterior
from pplemd.teachers.preconditioned import Preconditioned as Preconditioned
from pplemd.teachers.sampling import HeunSampler as HeunSampler
from pplemd.teachers.sampling import check as check
from pplemd.teachers.sampling import denoise as denoise
from pplemd.teachers.sampling import sample as sample
