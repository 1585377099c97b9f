"""The model a site starts from, before any training on its own footage."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.site import SiteConfig
    from models.reid import ReidNet


PUBLISHED = {
    "osnet_x0_25": "osnet_x0_25_msmt17",
    "osnet_x1_0": "osnet_x1_0_msmt17",
    "resnet50": "resnet50_imagenet",
    "ibn_resnet50_a": "ibn_resnet50_a_imagenet",
    "mobilenet_v2": "mobilenet_v2_imagenet",
}
"""Published weights that a site without `training.init` starts from, by architecture."""


def start_weights(site: SiteConfig) -> str:
    """Path (made absolute) or name of the weights a site starts from."""
    arch = site.training.arch
    return site.resolve_weights(site.training.init or PUBLISHED.get(arch, arch))


def start_model(site: SiteConfig) -> ReidNet:
    """Build the site's architecture and load `training.init`, or the architecture's published weights by name.

    Raises:
        models.weights.WeightsError: the weights are missing, damaged, or of another architecture.
    """
    from models.reid import build_reid
    from models.weights import load_weights

    net = build_reid(site.training.arch, pooling=site.training.pooling)
    load_weights(net, start_weights(site))
    return net
