"""Learning: the EM step, the M-step and score updates in it, teaching a teacher, and the loop that runs them."""

from pplemd.learning.alarms import Alarm as Alarm
from pplemd.learning.alarms import alarms as alarms
from pplemd.learning.anchor import Anchor as Anchor
from pplemd.learning.em_step import EMState as EMState
from pplemd.learning.em_step import EMStep as EMStep
from pplemd.learning.health import HealthCheck as HealthCheck
from pplemd.learning.labels import Labels as Labels
from pplemd.learning.labels import uniform_labels as uniform_labels
from pplemd.learning.learner import Learner as Learner
from pplemd.learning.loop import Interrupted as Interrupted
from pplemd.learning.loop import Schedule as Schedule
from pplemd.learning.loop import Watcher as Watcher
from pplemd.learning.loop import Window as Window
from pplemd.learning.loop import first_window as first_window
from pplemd.learning.loop import fit as fit
from pplemd.learning.optimisers import AbstractOptimiser as AbstractOptimiser
from pplemd.learning.optimisers import Adam as Adam
from pplemd.learning.optimisers import Optax as Optax
from pplemd.learning.recipe import Recipe as Recipe
from pplemd.learning.recipe import ScoreRecipe as ScoreRecipe
from pplemd.learning.score_matching import denoising_loss as denoising_loss
from pplemd.learning.teach import Taught as Taught
from pplemd.learning.teach import TeachRecipe as TeachRecipe
from pplemd.learning.teach import TeachState as TeachState
from pplemd.learning.teach import teach as teach
from pplemd.learning.teach import teach_step as teach_step
