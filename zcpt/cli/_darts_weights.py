"""Checkpoints of other code bases as trained networks."""

from __future__ import annotations

from pathlib import Path

from train.checkpoint import TrainedNetwork, load_weights
from train.preprocessing import DEFAULT_PREPROCESSING, Preprocessing
from zcpt.architecture_files import read_notation
from zcpt.compat.weights import convert_from_darts, infer_network_config, read_darts_weights
from zcpt.errors import DataError
from zcpt.options import pluralize
from zcpt.space_registry import get_space
from zcpt.versions import get_versions

# As the transforms in utils.py and train_imagenet.py of DARTS have them, and PC-DARTS after it.
_CIFAR_STATISTICS = ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768))
_IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_IMAGENET_PREPROCESSING = Preprocessing(test_crop=0.875)


def load_darts_network(path: Path, genotype: str, classes: tuple[str, ...] | None) -> TrainedNetwork:
    """Load a checkpoint of a discrete network of DARTS or PC-DARTS, without its auxiliary head.

    Args:
        path: The checkpoint.
        genotype: Text of the genotype, a file with it, or FILE:NAME for one of several in a Python file.
        classes: Names of the classes; None numbers them.

    Raises:
        ConfigError: The weights are not those of a network of this genotype.
        DataError: The number of classes is another one.
        SpaceError: The text is no genotype.
    """
    text, space = read_notation(genotype), get_space("darts")
    architecture = space.parse(text)
    weights = convert_from_darts(read_darts_weights(path), text)
    config = infer_network_config(weights)
    if classes is not None and len(classes) != config.num_classes:
        raise DataError(
            f"the network of {path} has {pluralize(config.num_classes, 'class', 'classes')}, and the data set "
            f"{len(classes)}: give another --dataset."
        )
    network = space.build_network(architecture, config)
    load_weights(network, {name: value for name, value in weights.items() if not name.startswith("auxiliary.")}, path)
    is_small = config.image_size == (32, 32)
    return TrainedNetwork(
        network.eval(),
        space,
        architecture,
        config,
        _CIFAR_STATISTICS if is_small else _IMAGENET_STATISTICS,
        classes or tuple(map(str, range(config.num_classes))),
        {"checkpoint": path.name, "versions": get_versions()},
        DEFAULT_PREPROCESSING if is_small else _IMAGENET_PREPROCESSING,
    )
