"""Optimizers and learning rate schedules; mirrors https://docs.pytorch.org/docs/stable/optim.html"""
from tritium.optim import lr_scheduler
from tritium.optim.adadelta import Adadelta
from tritium.optim.adagrad import Adagrad
from tritium.optim.adam import Adam, AdamW
from tritium.optim.adam_kin import Adamax, NAdam, RAdam
from tritium.optim.lars import LARS
from tritium.optim.lbfgs import LBFGS
from tritium.optim.optimizer import Optimizer
from tritium.optim.rmsprop import RMSprop
from tritium.optim.sgd import SGD

__all__ = ["Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "LARS", "LBFGS", "NAdam", "Optimizer", "RAdam", "RMSprop",
           "SGD", "lr_scheduler"]
