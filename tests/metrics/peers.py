"""Other people's implementations of the scores, called alike: NumPy arrays in, numbers out."""

import warnings

import prdc
import torch

from tests.metrics import fid_peers

fid_peers.admit_torchvision()
from pytorch_fid import fid_score  # noqa: E402
from torch_fidelity import metric_isc, metric_kid, metric_prc  # noqa: E402
from torch_fidelity.defaults import DEFAULTS  # noqa: E402, F401


def frechet_distance(mu1, sigma1, mu2, sigma2):
    """pytorch-fid's, by a matrix root of the product.

    Its root is SciPy's with ``disp=False``, deprecated by now and gone from 1.18.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return fid_score.calculate_frechet_distance(mu1, sigma1, mu2, sigma2)


def kid(first, second, subsets, size, seed=2020):
    """torch-fidelity's mean and standard deviation, of float64."""
    found = metric_kid.kid_features_to_metric(
        *(_double(values) for values in (first, second)),
        kid_subsets=subsets,
        kid_subset_size=size,
        rng_seed=seed,
        verbose=False,
    )
    return found[metric_kid.KEY_METRIC_KID_MEAN], found[metric_kid.KEY_METRIC_KID_STD]


def inception_score(logits, splits, seed):
    """torch-fidelity's mean and standard deviation; without a seed, unshuffled."""
    shuffling = {"shuffle": False} if seed is None else {"shuffle": True, "rng_seed": seed}
    found = metric_isc.isc_features_to_metric(torch.from_numpy(logits), splits, **shuffling)
    return found[metric_isc.KEY_METRIC_ISC_MEAN], found[metric_isc.KEY_METRIC_ISC_STD]


def precision_recall(reference, generated, k):
    """torch-fidelity's, which takes the generated first."""
    found = metric_prc.prc_features_to_metric(
        _double(generated),
        _double(reference),
        prc_neighborhood=k,
        prc_batch_size=64,
        save_cpu_ram=True,
        verbose=False,
    )
    return found[metric_prc.KEY_METRIC_PRECISION], found[metric_prc.KEY_METRIC_RECALL]


def precision_recall_density_coverage(reference, generated, k):
    """All four of prdc, by name."""
    found = prdc.compute_prdc(reference.astype(float), generated.astype(float), k)
    return {name: float(value) for name, value in found.items()}


def _double(values):
    return torch.from_numpy(values).double()
