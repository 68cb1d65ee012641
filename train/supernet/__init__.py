"""Training of a supernet: its weights, and the architecture parameters of DARTS, on two halves of the images."""

from train.supernet.alphas import ArchitectureParameters
from train.supernet.checkpoint import SUPERNET, TrainedSupernet, load_supernet, save_supernet
from train.supernet.config import SupernetConfig, make_supernet_config
from train.supernet.loop import SupernetTrainer
from train.supernet.run import train_supernet
from train.supernet.tuning import SupernetTuning, build_validation_batches, check_data

__all__ = [
    "SUPERNET",
    "ArchitectureParameters",
    "SupernetConfig",
    "SupernetTrainer",
    "SupernetTuning",
    "TrainedSupernet",
    "build_validation_batches",
    "check_data",
    "load_supernet",
    "make_supernet_config",
    "save_supernet",
    "train_supernet",
]
