"""What conditions a law: the form of its values, and priors over them."""

from pplemd.conditions.forms import NO_CLASS as NO_CLASS
from pplemd.conditions.forms import AbstractCondition as AbstractCondition
from pplemd.conditions.forms import AbstractConditionPrior as AbstractConditionPrior
from pplemd.conditions.forms import Arrays as Arrays
from pplemd.conditions.forms import Classes as Classes
from pplemd.conditions.forms import Condition as Condition
from pplemd.conditions.forms import Labels as Labels
from pplemd.conditions.forms import Listed as Listed
from pplemd.conditions.forms import Tokens as Tokens
from pplemd.conditions.forms import as_condition as as_condition
from pplemd.conditions.forms import classes_of as classes_of
from pplemd.conditions.forms import dropped as dropped
from pplemd.conditions.forms import same_shapes as same_shapes
