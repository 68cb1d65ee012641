"""Networks as timm models: ``import zcpt.timm`` registers them all.

The published networks have names of their own, for example ``zcpt_darts_v2``; ``zcpt`` builds any architecture::

    import timm, zcpt.timm

    timm.list_models("zcpt*")
    network = timm.create_model("zcpt_pcdarts", num_classes=100, img_size=32)
    network = timm.create_model("zcpt", architecture="runs/a", num_classes=10)
"""

from zcpt.timm._models import PublishedNetwork, list_published_networks
from zcpt.timm._save import save_model

__all__ = ["PublishedNetwork", "list_published_networks", "save_model"]
