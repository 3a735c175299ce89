"""Classifiers of images whose inner features measure how alike images are; small, and trained elsewhere."""

from pplemd.networks.classifiers.base import AbstractClassifier as AbstractClassifier
from pplemd.networks.classifiers.base import View as View
from pplemd.networks.classifiers.lenet import LeNet as LeNet
from pplemd.networks.classifiers.resnet import ResNet as ResNet
